#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>

#include "data/augment/named.h"
#include "data/augment/policies.h"
#include "data/resize.h"
#include "tests/data/serial_block.h"
#include "tests/data/test_data.h"

// What the kernels of data/gpu compute, run on the CPU against the CPU's own functions.
namespace vrwkv::data {
namespace {

using augment::DrawnOperation;
using augment::OperationKind;
using testing::augment_serially;
using testing::make_view_serially;
using testing::max_difference;
using testing::random_image;

constexpr int kKinds = 17;

/// Noise, few levels, one level, and slopes: what tables, means and cubics meet.
std::vector<at::Tensor> square_images(int64_t side) {
  std::vector<at::Tensor> images{random_image(side, side, 1), random_image(side, side, 2).div(16, "floor") + 100,
                                 at::full({side, side, 3}, 77, at::kByte)};
  const at::Tensor slope = at::arange(side * side * 3, at::kLong).reshape({side, side, 3});
  images.push_back(slope.remainder(251).to(at::kByte));
  return images;
}

/// Arguments that the policies draw for an operation, and the ends of its range.
std::vector<double> arguments_of(OperationKind kind) {
  switch (kind) {
    case OperationKind::posterize:
      return {0, 1, 3, 4, 8};
    case OperationKind::solarize:
      return {0, 26, 128, 230, 256};
    case OperationKind::solarize_add:
      return {0, 7, 99, 110};
    case OperationKind::color:
    case OperationKind::contrast:
    case OperationKind::brightness:
    case OperationKind::sharpness:
      return {0.0, 0.1, 0.7310, 1.0, 1.3, 1.9};
    case OperationKind::gaussian_blur:
      return {0.1, 0.61803, 1.0, 1.4, 2.0, 5.5};
    case OperationKind::rotate:
      return {-30, -11.25, 0, 1e-3, 27, 90};
    case OperationKind::shear_x:
    case OperationKind::shear_y:
      return {-0.3, -0.0123, 0, 0.27};
    case OperationKind::translate_x_rel:
    case OperationKind::translate_y_rel:
      return {-0.45, 0, 0.1 + 1e-9, 0.405};
    default:
      return {0};
  }
}

TEST(DeviceArithmetic, OperationsGiveExactlyTheCpusPixels) {
  ASSERT_EQ(augment::named_operations().size(), kKinds);
  for (const int64_t side : {1, 2, 3, 17, 64}) {
    for (const at::Tensor& image : square_images(side)) {
      for (int k = 0; k < kKinds; ++k) {
        const augment::NamedOperation& named = augment::named_operations()[static_cast<std::size_t>(k)];
        for (const double argument : arguments_of(static_cast<OperationKind>(k))) {
          const at::Tensor expected = named.apply(image, argument);
          const at::Tensor actual = augment_serially(image, {{static_cast<OperationKind>(k), argument}});
          EXPECT_TRUE(expected.equal(actual)) << named.name << " " << argument << ", side " << side;
        }
      }
    }
  }
}

TEST(DeviceArithmetic, SequencesOfDrawnOperationsDoToo) {
  const at::Tensor image = random_image(40, 40, 3).div(2, "floor") + 50;
  TrainTransformOptions options;
  options.rand_augment = {.num_ops = 4, .prob = 0.8};
  options.color_jitter = 0.4;
  std::array<int, kKinds> seen{};
  for (std::uint64_t i = 0; i < 300; ++i) {
    options.three_augment = i % 2 == 0;
    Generator generator(1, 2, i, RandomStream::augment);
    const std::vector<DrawnOperation> drawn = augment::draw_augmentation(options, generator);
    for (const DrawnOperation& operation : drawn) ++seen[static_cast<std::size_t>(operation.kind)];
    EXPECT_TRUE(augment::apply_operations(image, drawn).equal(augment_serially(image, drawn))) << "draw " << i;
  }
  EXPECT_GT(std::ranges::min(seen), 0);
}

/// The resize's definition: cubic convolution in float64, the width first, each pass rounded.
at::Tensor exact_resize(const at::Tensor& image, int64_t size) {
  const auto pass = [](const at::Tensor& planes, int64_t height, int64_t width) {
    return at::_upsample_bicubic2d_aa(planes, {height, width}, /*align_corners=*/false).round().clamp(0, 255);
  };
  const at::Tensor planes = image.permute({2, 0, 1}).unsqueeze(0).to(at::kDouble);
  const at::Tensor narrow = pass(planes, image.size(0), size);
  return pass(narrow, size, size).to(at::kByte).squeeze(0).permute({1, 2, 0}).contiguous();
}

/// A smooth picture with edges, as photographs are.
at::Tensor smooth_image(int64_t height, int64_t width) {
  const at::Tensor y = at::arange(height, at::kDouble).reshape({height, 1, 1}) / 17;
  const at::Tensor x = at::arange(width, at::kDouble).reshape({1, width, 1}) / 23;
  const at::Tensor phase = at::arange(3, at::kDouble).reshape({1, 1, 3});
  return (127.5 + 100 * at::sin(y + phase) * at::cos(x - phase) + 20 * at::sign(at::sin(x * y))).round().to(at::kByte);
}

TEST(DeviceArithmetic, ResizesWithinALevelOfTheFormulaAndOfTheCpu) {
  for (const auto& [height, width, size] : {std::array<int64_t, 3>{1, 1, 8},
                                            {3, 2, 8},
                                            {31, 47, 32},
                                            {375, 500, 64},
                                            {64, 64, 64},
                                            {500, 30, 96},
                                            {97, 1203, 48}}) {
    for (const bool noise : {false, true}) {
      const at::Tensor image = noise ? random_image(height, width, 5) : smooth_image(height, width);
      const at::Tensor actual = make_view_serially(image, {.box = {0, 0, height, width}, .operations = {}}, size);
      // A tie that float32 rounds otherwise moves a level of the first pass, and by it at most one of the second.
      EXPECT_LE(max_difference(exact_resize(image, size), actual), 1) << height << " x " << width << " to " << size;
      EXPECT_LE(max_difference(resize(image, size, size), actual), noise ? 2 : 1)
          << height << " x " << width << " to " << size;
    }
  }
}

TEST(DeviceArithmetic, CropsFlipsAndPadsAsTheCpu) {
  constexpr int64_t kSize = 32;
  const at::Tensor image = random_image(kSize, kSize, 9);  // Not resized, so that every pixel is exact.
  for (const bool flip : {false, true}) {
    for (const auto& [top, left] : {std::array<int64_t, 2>{0, 0}, {-4, 3}, {5, -32}, {40, 0}}) {
      TrainView view{.box = {0, 0, kSize, kSize}, .top = top, .left = left, .flip = flip, .operations = {}};
      view.operations = {{OperationKind::rotate, 20}, {OperationKind::equalize, 0}};
      EXPECT_TRUE(make_train_view(image, view, kSize).equal(make_view_serially(image, view, kSize)))
          << top << " " << left << " " << flip;
    }
  }
}

}  // namespace
}  // namespace vrwkv::data
