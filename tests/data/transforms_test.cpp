#include "data/transforms.h"

#include <gtest/gtest.h>

#include <cmath>

#include "data/resize.h"
#include "tests/data/test_data.h"
#include "tests/support/golden.h"

namespace vrwkv::data {
namespace {

using testing::max_difference;
using testing::random_image;

Generator generator_of(std::uint64_t index) { return {11, 0, index, RandomStream::transform}; }

TEST(RandomResizedBox, DrawsAreaAndAspectUniformly) {
  // With areas of at most 0.3 every draw fits into a square, so that nothing is drawn twice.
  TrainTransformOptions options;
  options.scale = {0.1, 0.3};
  constexpr int kDraws = 20'000;
  constexpr int64_t kSide = 2000;
  double area = 0;
  double area_squares = 0;
  double log_ratio = 0;
  double log_ratio_squares = 0;
  double center_x = 0;
  double center_y = 0;
  for (int i = 0; i < kDraws; ++i) {
    Generator generator = generator_of(static_cast<std::uint64_t>(i));
    const Box box = random_resized_box(kSide, kSide, options, generator);
    ASSERT_GE(box.top, 0);
    ASSERT_GE(box.left, 0);
    ASSERT_LE(box.top + box.height, kSide);
    ASSERT_LE(box.left + box.width, kSide);
    const double share = static_cast<double>(box.height * box.width) / (kSide * kSide);
    const double log_aspect = std::log(static_cast<double>(box.width) / static_cast<double>(box.height));
    ASSERT_NEAR(share, 0.2, 0.1005);
    ASSERT_LE(std::abs(log_aspect), std::log(4.0 / 3.0) + 0.002);
    area += share;
    area_squares += share * share;
    log_ratio += log_aspect;
    log_ratio_squares += log_aspect * log_aspect;
    center_x += (static_cast<double>(box.left) + static_cast<double>(box.width) / 2) / kSide;
    center_y += (static_cast<double>(box.top) + static_cast<double>(box.height) / 2) / kSide;
  }
  const double half_width = std::log(4.0 / 3.0);
  EXPECT_NEAR(area / kDraws, 0.2, 5 * 0.0577 / std::sqrt(kDraws));
  EXPECT_NEAR(area_squares / kDraws, 0.04 + 0.04 / 12, 2e-4);
  EXPECT_NEAR(log_ratio / kDraws, 0.0, 5 * half_width / std::sqrt(3.0 * kDraws));
  EXPECT_NEAR(log_ratio_squares / kDraws, half_width * half_width / 3, 1e-3);
  EXPECT_NEAR(center_x / kDraws, 0.5, 0.01);
  EXPECT_NEAR(center_y / kDraws, 0.5, 0.01);
}

TEST(RandomResizedBox, FallsBackToTheLargestMiddle) {
  const TrainTransformOptions options;
  Generator generator = generator_of(1);
  EXPECT_EQ(random_resized_box(10, 1000, options, generator), (Box{0, 493, 10, 13}));  // round(13.33)
  EXPECT_EQ(random_resized_box(1000, 9, options, generator), (Box{494, 0, 12, 9}));    // round(12.0)
  TrainTransformOptions impossible;
  impossible.scale = {2.0, 3.0};
  EXPECT_EQ(random_resized_box(50, 60, impossible, generator), (Box{0, 0, 50, 60}));
}

TEST(RandomResizedBox, StaysInsideOfTinyImages) {
  const TrainTransformOptions options;
  for (std::uint64_t i = 0; i < 2000; ++i) {
    Generator generator = generator_of(i);
    const int64_t height = 1 + generator.integer(4);
    const int64_t width = 1 + generator.integer(40);
    const Box box = random_resized_box(height, width, options, generator);
    ASSERT_TRUE(box.height >= 1 && box.width >= 1 && box.top >= 0 && box.left >= 0 && box.top + box.height <= height &&
                box.left + box.width <= width);
  }
}

TEST(TrainView, FlipsWithItsProbability) {
  TrainTransformOptions options;
  options.crop = TrainCrop::resize;
  options.size = 6;
  const at::Tensor image = random_image(6, 6, 1);
  const auto flips = [&](double probability) {
    options.hflip = probability;
    int count = 0;
    for (std::uint64_t i = 0; i < 4000; ++i) {
      Generator generator = generator_of(i);
      const at::Tensor view = train_view(image, options, generator);
      const bool flipped = max_difference(view, image.flip(1)) == 0;
      EXPECT_TRUE(flipped || max_difference(view, image) == 0);
      count += flipped ? 1 : 0;
    }
    return count;
  };
  EXPECT_EQ(flips(0.0), 0);
  EXPECT_EQ(flips(1.0), 4000);
  EXPECT_NEAR(flips(0.25), 1000, 5 * std::sqrt(4000 * 0.25 * 0.75));
}

TEST(TrainView, PadCropReachesEveryPlace) {
  TrainTransformOptions options;
  options.crop = TrainCrop::pad;
  options.size = 8;
  options.padding = 1;
  options.hflip = 0;
  const at::Tensor image = random_image(8, 8, 2);
  const at::Tensor padded = pad_zero(image, 1);
  std::vector<int> seen(9);
  for (std::uint64_t i = 0; i < 9000; ++i) {
    Generator generator = generator_of(i);
    const at::Tensor view = train_view(image, options, generator);
    int matches = 0;
    for (int64_t place = 0; place < 9; ++place) {
      if (max_difference(view, padded.narrow(0, place / 3, 8).narrow(1, place % 3, 8)) == 0) {
        ++seen[static_cast<std::size_t>(place)];
        ++matches;
      }
    }
    ASSERT_EQ(matches, 1);
  }
  for (const int count : seen) {
    EXPECT_NEAR(count, 1000, 5 * std::sqrt(1000));
  }
}

TEST(TrainView, PadCropResizesOtherSizesFirst) {
  TrainTransformOptions options;
  options.crop = TrainCrop::pad;
  options.size = 8;
  options.padding = 2;
  const at::Tensor image = random_image(20, 13, 2);
  for (std::uint64_t i = 0; i < 50; ++i) {
    Generator first = generator_of(i);
    Generator second = generator_of(i);
    const at::Tensor expected = train_view(resize(image, 8, 8), options, first);
    EXPECT_EQ(max_difference(expected, train_view(image, options, second)), 0);
  }
}

TEST(TrainView, IsAFunctionOfImageAndGenerator) {
  const at::Tensor image = random_image(90, 70, 3);
  TrainTransformOptions options;
  options.size = 48;
  Generator first = generator_of(5);
  Generator second = generator_of(5);
  Generator other = generator_of(6);
  const at::Tensor view = train_view(image, options, first);
  ASSERT_EQ(view.sizes(), (at::IntArrayRef{48, 48, 3}));
  EXPECT_EQ(max_difference(view, train_view(image, options, second)), 0);
  EXPECT_GT(max_difference(view, train_view(image, options, other)), 0);
}

TEST(EvalView, IsResizeThenCenter) {
  const at::Tensor image = random_image(60, 45, 4);
  const at::Tensor view = eval_view(image, {.resize = 30, .size = 20});
  EXPECT_EQ(max_difference(view, resize(image, 40, 30).narrow(0, 10, 20).narrow(1, 5, 20)), 0);
  const at::Tensor padded = eval_view(image, {.resize = 18, .size = 20});
  EXPECT_EQ(max_difference(padded.narrow(1, 1, 18), resize(image, 24, 18).narrow(0, 2, 20)), 0);
  EXPECT_EQ(padded.select(1, 0).max().item<int64_t>(), 0);
}

TEST(EvalView, AgreesWithPillowOnImageNet) {
  if (!std::filesystem::exists(testing::shared_data("imagenet-sample"))) {
    GTEST_SKIP() << "no ../shared/data/imagenet-sample beside the checkout";
  }
  const auto golden = vrwkv::testing::read_golden("eval_crop224.safetensors").tensors;
  ASSERT_EQ(golden.size(), 4U);
  for (const auto& [name, expected] : golden) {
    const auto file = testing::shared_data("imagenet-sample") / name.substr(0, name.find('_')) / name;
    const at::Tensor view = eval_view(decode_image(*read_file_bytes(file)), {.resize = 256, .size = 224});
    ASSERT_EQ(view.sizes(), expected.sizes());
    const at::Tensor difference = (view.to(at::kDouble) - expected.to(at::kDouble)).abs();
    EXPECT_LE(difference.max().item<double>(), 1.0) << name;
    EXPECT_LT(difference.mean().item<double>(), 0.1) << name;
    RecordProperty(name, std::to_string(difference.mean().item<double>()));
  }
}

TEST(Normalize, IsTheFormulaPerChannel) {
  const NormalizeOptions options;
  const at::Tensor images = at::stack({random_image(5, 7, 1), random_image(5, 7, 2)});
  const at::Tensor exact = normalize(images, options, at::kDouble);
  ASSERT_EQ(exact.sizes(), (at::IntArrayRef{2, 3, 5, 7}));
  EXPECT_TRUE(exact.is_contiguous());
  for (int64_t c = 0; c < 3; ++c) {
    const auto channel = static_cast<std::size_t>(c);
    const double value = (images[1][4][6][c].item<double>() - options.mean[channel]) / options.std[channel];
    EXPECT_DOUBLE_EQ(exact[1][c][4][6].item<double>(), value);
  }
  EXPECT_TRUE(normalize(images, options, at::kFloat).allclose(exact.to(at::kFloat), 1e-6, 1e-6));
  const at::Tensor half = normalize(images, options, at::kBFloat16);
  EXPECT_EQ(half.scalar_type(), at::kBFloat16);
  EXPECT_TRUE(half.to(at::kDouble).allclose(exact, 4e-3, 1e-6));
  EXPECT_EQ(images.scalar_type(), at::kByte);
  EXPECT_THROW(normalize(images.permute({0, 3, 1, 2}), options, at::kFloat), c10::Error);
}

}  // namespace
}  // namespace vrwkv::data
