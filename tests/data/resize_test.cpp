#include "data/resize.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "tests/data/test_data.h"

namespace vrwkv::data {
namespace {

using testing::max_difference;
using testing::random_image;

double bicubic(double x) {
  constexpr double a = -0.5;
  x = std::abs(x);
  if (x < 1.0) {
    return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0;
  }
  return x < 2.0 ? (((x - 5.0) * x + 8.0) * x - 4.0) * a : 0.0;
}

/// A resampling filter and how far it reaches.
struct Filter {
  Interpolation name;
  double (*weight)(double);
  double reach;
};
const Filter kBicubic{Interpolation::bicubic, bicubic, 2.0};
const Filter kBilinear{Interpolation::bilinear, [](double x) { return std::max(0.0, 1.0 - std::abs(x)); }, 1.0};

/// Pillow's resampling along dimension 0, with its weights in double, rounded to grey levels.
at::Tensor resized_rows(const at::Tensor& image, int64_t size, const Filter& filter) {
  const int64_t rows = image.size(0);
  const double scale = static_cast<double>(rows) / static_cast<double>(size);
  const double stretch = std::max(scale, 1.0);
  const at::Tensor source = image.to(at::kDouble);
  at::Tensor result = at::empty({size, image.size(1), 3}, at::kDouble);
  for (int64_t y = 0; y < size; ++y) {
    const double center = (static_cast<double>(y) + 0.5) * scale;
    const auto first = std::max<int64_t>(0, static_cast<int64_t>(center - filter.reach * stretch + 0.5));
    const auto last = std::min<int64_t>(rows, static_cast<int64_t>(center + filter.reach * stretch + 0.5));
    double total = 0.0;
    result[y].zero_();
    for (int64_t i = first; i < last; ++i) {
      const double weight = filter.weight((static_cast<double>(i) - center + 0.5) / stretch);
      total += weight;
      result[y].add_(source[i], weight);
    }
    result[y].div_(total);
  }
  return result.add(0.5).floor().clamp(0, 255).to(at::kByte);
}

at::Tensor reference_resize(const at::Tensor& image, int64_t height, int64_t width, const Filter& filter) {
  const at::Tensor wide = resized_rows(image.transpose(0, 1).contiguous(), width, filter).transpose(0, 1).contiguous();
  return resized_rows(wide, height, filter);
}

TEST(Resize, AgreesWithPillowsFormula) {
  struct Case {
    int64_t height, width, new_height, new_width;
  };
  for (const Case& c : {Case{37, 53, 16, 16}, Case{8, 8, 32, 32}, Case{100, 60, 99, 61}, Case{5, 200, 40, 3},
                        Case{1, 1, 7, 9}, Case{1, 40, 5, 20}, Case{40, 1, 20, 5}, Case{64, 64, 64, 20},
                        Case{64, 64, 20, 64}, Case{300, 211, 224, 224}, Case{30, 30, 1, 1}, Case{2, 3, 3, 2}}) {
    const at::Tensor noise = random_image(c.height, c.width, static_cast<std::uint64_t>(c.height * 1000 + c.width));
    // Black and white noise is harder than any photograph; noise around a middle grey is like one.
    for (const auto& [image, tolerance] : {std::pair{noise.div(4, "floor").add(96), 1}, {noise, 2}}) {
      for (const Filter& filter : {kBicubic, kBilinear}) {
        const at::Tensor resized = resize(image, c.new_height, c.new_width, filter.name);
        ASSERT_EQ(resized.sizes(), (at::IntArrayRef{c.new_height, c.new_width, 3}));
        EXPECT_TRUE(resized.is_contiguous());
        const at::Tensor expected = reference_resize(image, c.new_height, c.new_width, filter);
        EXPECT_LE(max_difference(expected, resized), tolerance)
            << c.height << "x" << c.width << " to " << c.new_height << "x" << c.new_width << " by filter of reach "
            << filter.reach;
        EXPECT_LT((expected.to(at::kDouble) - resized.to(at::kDouble)).abs().mean().item<double>(), 0.25);
      }
    }
  }
}

TEST(Resize, ConstantImagesStayConstant) {
  const at::Tensor image = at::full({33, 47, 3}, 201, at::kByte);
  EXPECT_EQ(max_difference(resize(image, 70, 11), at::full({70, 11, 3}, 201, at::kByte)), 0);
}

TEST(Resize, RefusesGiantResults) {
  const at::Tensor strip = random_image(1, 4000, 1);
  EXPECT_THROW(resize_short_side(strip, 256), ImageError);
  EXPECT_THROW(resize(strip, 0, 5), std::invalid_argument);
  EXPECT_THROW(resize(strip.to(at::kFloat), 5, 5), std::invalid_argument);
  EXPECT_THROW(resize(random_image(4, 6, 1).transpose(0, 1), 5, 5), std::invalid_argument);
}

TEST(ResizeShortSide, CutsTheLongSideDown) {
  const auto sizes = [](int64_t height, int64_t width) {
    return resize_short_side(random_image(height, width, 2), 256).sizes().vec();
  };
  EXPECT_EQ(sizes(375, 500), (std::vector<int64_t>{256, 341, 3}));  // 341.33
  EXPECT_EQ(sizes(500, 333), (std::vector<int64_t>{384, 256, 3}));  // 384.38
  EXPECT_EQ(sizes(300, 449), (std::vector<int64_t>{256, 383, 3}));  // 383.15
  EXPECT_EQ(sizes(100, 100), (std::vector<int64_t>{256, 256, 3}));
}

TEST(Crop, ShowsZeroOutside) {
  const at::Tensor image = random_image(6, 9, 3);
  const int64_t reach = 12;
  const at::Tensor canvas = at::zeros({6 + 2 * reach, 9 + 2 * reach, 3}, at::kByte);
  canvas.narrow(0, reach, 6).narrow(1, reach, 9).copy_(image);
  Generator generator(1, 2, 3, RandomStream::transform);
  for (int trial = 0; trial < 500; ++trial) {
    const int64_t height = 1 + generator.integer(11);
    const int64_t width = 1 + generator.integer(11);
    const int64_t top = generator.integer(6 + 2 * reach - height + 1) - reach;
    const int64_t left = generator.integer(9 + 2 * reach - width + 1) - reach;
    const at::Tensor expected = canvas.narrow(0, top + reach, height).narrow(1, left + reach, width);
    const at::Tensor cropped = crop(image, top, left, height, width);
    ASSERT_TRUE(cropped.is_contiguous());
    ASSERT_EQ(max_difference(expected, cropped), 0) << top << " " << left << " " << height << " " << width;
  }
}

TEST(Crop, PadsOnEachSide) {
  const at::Tensor image = random_image(4, 5, 4);
  const at::Tensor padded = pad_zero(image, 3);
  ASSERT_EQ(padded.sizes(), (at::IntArrayRef{10, 11, 3}));
  EXPECT_EQ(max_difference(padded.narrow(0, 3, 4).narrow(1, 3, 5), image), 0);
  EXPECT_EQ(padded.sum().item<int64_t>(), image.sum().item<int64_t>());
}

/// Where the crop starts in the image, found with an image whose value is its row or column.
int64_t center_start(int64_t side, int64_t size) {
  const at::Tensor ramp = at::arange(1, side + 1, at::kByte).view({side, 1, 1}).expand({side, side, 3}).contiguous();
  const at::Tensor cropped = center_crop(ramp, size);
  EXPECT_EQ(max_difference(cropped, center_crop(ramp.transpose(0, 1).contiguous(), size).transpose(0, 1)), 0);
  const at::Tensor column = cropped.select(1, size / 2).select(1, 0);
  const int64_t padding = (column == 0).to(at::kLong).narrow(0, 0, (size + 1) / 2).sum().item<int64_t>();
  return column[padding].item<int64_t>() - 1 - padding;
}

TEST(CenterCrop, RoundsAsPythonDoes) {
  EXPECT_EQ(center_start(10, 4), 3);
  EXPECT_EQ(center_start(9, 4), 2);   // round(2.5) = 2
  EXPECT_EQ(center_start(11, 4), 4);  // round(3.5) = 4
  EXPECT_EQ(center_start(5, 4), 0);   // round(0.5) = 0
  EXPECT_EQ(center_start(4, 4), 0);
}

TEST(CenterCrop, PadsASmallerImage) {
  EXPECT_EQ(center_start(4, 8), -2);
  EXPECT_EQ(center_start(4, 9), -2);  // two rows before, three after
  const at::Tensor image = random_image(3, 20, 5);
  const at::Tensor cropped = center_crop(image, 8);
  ASSERT_EQ(cropped.sizes(), (at::IntArrayRef{8, 8, 3}));
  EXPECT_EQ(max_difference(cropped.narrow(0, 2, 3), image.narrow(1, 6, 8)), 0);
}

TEST(Hflip, MirrorsAndComesBack) {
  const at::Tensor image = random_image(7, 12, 6);
  EXPECT_EQ(max_difference(hflip(image), image.flip(1)), 0);
  EXPECT_EQ(max_difference(hflip(hflip(image)), image), 0);
}

}  // namespace
}  // namespace vrwkv::data
