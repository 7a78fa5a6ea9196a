#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "data/augment/operations.h"
#include "data/augment/policies.h"
#include "data/transforms.h"
#include "tests/data/test_data.h"

namespace vrwkv::data::augment {
namespace {

using testing::max_difference;
using testing::random_image;

Generator generator_of(std::uint64_t index) { return {5, 2, index, RandomStream::augment}; }

/// Levels from 20 to 209 and enough pixels for equalize: every operation of magnitude 9 changes it.
at::Tensor middling_image() { return random_image(20, 24, 3).div(4, "floor") * 3 + 20; }

/// Five standard deviations of the count of events of probability `share` among `draws`.
double slack(int draws, double share) { return 5 * std::sqrt(draws * share * (1 - share)); }

struct Outcome {
  at::Tensor image;
  double share;  ///< Of all draws.
};

/// What one operation at magnitude 9 can make of an image: timm's rand-m9-inc1, or without `inc1`.
std::vector<Outcome> outcomes(const at::Tensor& image, bool increasing) {
  constexpr double kOne = 1.0 / 15, kHalf = kOne / 2;
  std::vector<Outcome> all{{auto_contrast(image), kOne},
                           {equalize(image), kOne},
                           {invert(image), kOne},
                           {posterize(image, increasing ? 1 : 3), kOne},
                           {solarize(image, increasing ? 26 : 230), kOne},
                           {solarize_add(image, 99), kOne}};
  for (const auto operation : {color, contrast, brightness, sharpness}) {
    if (increasing) {
      all.push_back({operation(image, 1.81), kHalf});
      all.push_back({operation(image, 0.19), kHalf});
    } else {
      all.push_back({operation(image, 1.72), kOne});
    }
  }
  for (const double sign : {-1.0, 1.0}) {
    all.push_back({rotate(image, sign * 27), kHalf});
    all.push_back({shear_x(image, sign * 0.27), kHalf});
    all.push_back({shear_y(image, sign * 0.27), kHalf});
    all.push_back({translate_x_rel(image, sign * 0.405), kHalf});
    all.push_back({translate_y_rel(image, sign * 0.405), kHalf});
  }
  return all;
}

TEST(RandAugment, DrawsEachOfThe15OperationsAndSignsEquallyOften) {
  constexpr int kDraws = 12'000;
  const at::Tensor image = middling_image();
  for (const bool increasing : {true, false}) {
    const RandAugmentOptions options{
        .num_ops = 1, .magnitude = 9, .magnitude_std = 0, .prob = 1, .increasing = increasing};
    const std::vector<Outcome> expected = outcomes(image, increasing);
    std::vector<int> counts(expected.size());
    for (std::uint64_t i = 0; i < kDraws; ++i) {
      Generator generator = generator_of(i);
      const at::Tensor result = rand_augment(image, options, generator);
      int matches = 0;
      for (std::size_t k = 0; k < expected.size(); ++k) {
        if (!result.equal(expected[k].image)) continue;
        ++counts[k];
        ++matches;
      }
      ASSERT_EQ(matches, 1) << "draw " << i;
    }
    for (std::size_t k = 0; k < expected.size(); ++k) {
      EXPECT_NEAR(counts[k], kDraws * expected[k].share, slack(kDraws, expected[k].share)) << k;
    }
  }
}

TEST(RandAugment, AppliesSoManyOperationsWithTheirProbability) {
  constexpr int kDraws = 6000;
  const at::Tensor image = middling_image();
  for (const int64_t num_ops : {0, 1, 2, 3}) {
    for (const double prob : {0.0, 0.3, 0.5}) {
      int unchanged = 0;
      for (std::uint64_t i = 0; i < kDraws; ++i) {
        Generator generator = generator_of(i);
        const RandAugmentOptions options{.num_ops = num_ops, .prob = prob};
        unchanged += rand_augment(image, options, generator).equal(image) ? 1 : 0;
      }
      // That two operations undo each other (invert twice) is rare: less than 1 in 100.
      const double share = std::pow(1 - prob, static_cast<double>(num_ops));
      EXPECT_NEAR(unchanged, kDraws * share, slack(kDraws, share) + kDraws * 0.01 * (1 - share)) << num_ops << prob;
    }
  }
}

/// The magnitudes drawn, seen through solarize_add, the one operation that gives a black image another plain level.
std::vector<double> magnitudes(const RandAugmentOptions& options) {
  const at::Tensor black = at::zeros({3, 3, 3}, at::kByte);
  std::vector<double> found;
  for (std::uint64_t i = 0; i < 30'000; ++i) {
    Generator generator = generator_of(i);
    const at::Tensor result = rand_augment(black, options, generator);
    const int64_t level = result.max().item<int64_t>();
    if (level > 0 && level <= 110 && result.min().item<int64_t>() == level) {
      found.push_back((static_cast<double>(level) + 0.5) / 11.0);
    }
  }
  return found;
}

TEST(RandAugment, DrawsTheMagnitudeFromANormalDistribution) {
  for (const auto& [mean, deviation] : {std::pair{5.0, 1.0}, std::pair{4.0, 0.25}}) {
    const std::vector<double> found =
        magnitudes({.num_ops = 1, .magnitude = mean, .magnitude_std = deviation, .prob = 1});
    const auto count = static_cast<double>(found.size());
    EXPECT_NEAR(count, 2000, 5 * std::sqrt(2000));
    double sum = 0, squares = 0;
    for (const double value : found) {
      sum += value;
      squares += (value - mean) * (value - mean);
    }
    EXPECT_NEAR(sum / count, mean, 5 * deviation / std::sqrt(count));
    EXPECT_NEAR(std::sqrt(squares / count), deviation, 5 * deviation / std::sqrt(2 * count));
  }
  const std::vector<double> wide = magnitudes({.num_ops = 1, .magnitude = 5, .magnitude_std = 1000, .prob = 1});
  int full = 0;
  for (const double value : wide) full += value > 10 ? 1 : 0;  // level 110
  EXPECT_GT(full, static_cast<int>(wide.size()) * 9 / 10);     // what is below 0 gives level 0, which is not seen
}

TEST(ThreeAugment, IsGrayscaleSolarizeOrBlurEquallyOften) {
  constexpr int kDraws = 3000;
  const at::Tensor image = random_image(12, 10, 8);
  const auto variance = [](const at::Tensor& tensor) { return tensor.to(at::kDouble).var().item<double>(); };
  const double most = variance(gaussian_blur(image, 0.1)), middle = variance(gaussian_blur(image, 1.05)),
               least = variance(gaussian_blur(image, 2.0));
  int grey = 0, solarized = 0, blurred = 0, strongly = 0;
  for (std::uint64_t i = 0; i < kDraws; ++i) {
    Generator generator = generator_of(i);
    const at::Tensor result = three_augment(image, generator);
    if (result.equal(grayscale(image))) {
      ++grey;
    } else if (result.equal(solarize(image, 128))) {
      ++solarized;
    } else {
      ++blurred;
      strongly += variance(result) < middle ? 1 : 0;
      ASSERT_LE(variance(result), most);
      ASSERT_GE(variance(result), least);
    }
  }
  for (const int count : {grey, solarized, blurred}) EXPECT_NEAR(count, 1000, slack(kDraws, 1.0 / 3));
  EXPECT_NEAR(strongly, 500, slack(kDraws, 1.0 / 6));  // radii are uniform in 0.1 ... 2
}

// The factors are read off: of brightness from the mean, of contrast and saturation from differences.
TEST(ColorJitter, DrawsThreeIndependentUniformFactors) {
  constexpr int kDraws = 4000;
  for (const double strength : {0.1, 0.3}) {
    at::Tensor image = at::empty({4, 4, 3}, at::kByte);
    image.narrow(0, 0, 2).fill_(60);
    image.narrow(0, 2, 2).fill_(140);
    image[0][0].copy_(at::tensor({130, 70, 70}));
    const double mean = grayscale(image).to(at::kDouble).mean().item<double>();
    std::array<double, 3> sums{}, squares{};
    for (std::uint64_t i = 0; i < kDraws; ++i) {
      Generator generator = generator_of(i);
      const at::Tensor result = color_jitter(image, strength, generator).to(at::kDouble) + 0.5;  // cut off, on average
      const double bright = grayscale(result.to(at::kByte)).to(at::kDouble).mean().item<double>() / mean;
      const double both = (result[3][3][0] - result[1][1][0]).item<double>() / 80;
      const double all = (result[0][0][0] - result[0][0][1]).item<double>() / 60;
      const std::array<double, 3> factors{bright, both / bright, all / both};
      for (std::size_t k = 0; k < 3; ++k) {
        ASSERT_NEAR(factors[k], 1.0, strength + 0.06) << k;
        sums[k] += factors[k] - 1;
        squares[k] += (factors[k] - 1) * (factors[k] - 1);
      }
    }
    const double variance = strength * strength / 3;
    for (std::size_t k = 0; k < 3; ++k) {
      EXPECT_NEAR(sums[k] / kDraws, 0.0, 5 * std::sqrt(variance / kDraws) + 0.012) << k;
      EXPECT_NEAR(std::sqrt(squares[k] / kDraws), std::sqrt(variance), 0.1 * std::sqrt(variance) + 0.003) << k;
    }
  }
}

TEST(TrainView, AugmentationIsOfItsPlaceAndMovesNoOtherDraw) {
  const at::Tensor image = random_image(40, 50, 9);
  TrainTransformOptions plain;
  plain.size = 16;
  TrainTransformOptions three = plain, nothing = plain, full = plain;
  three.three_augment = true;
  nothing.rand_augment = {.num_ops = 4, .prob = 0};
  full.rand_augment = {.num_ops = 2, .prob = 1};
  full.color_jitter = 0.4;
  const auto view = [&](const TrainTransformOptions& options, std::uint64_t seed, std::uint64_t epoch,
                        std::uint64_t index) {
    Generator generator(seed, epoch, index, RandomStream::transform);
    return train_view(image, options, generator);
  };
  int grey = 0;
  for (std::uint64_t i = 0; i < 60; ++i) {
    const at::Tensor before = view(plain, 1, 2, i);
    EXPECT_EQ(max_difference(view(nothing, 1, 2, i), before), 0);
    grey += view(three, 1, 2, i).equal(grayscale(before)) ? 1 : 0;
    EXPECT_TRUE(view(full, 1, 2, i).equal(view(full, 1, 2, i)));
    EXPECT_FALSE(view(full, 1, 2, i).equal(before));
    EXPECT_FALSE(view(full, 1, 2, i).equal(view(full, 2, 2, i)));
    EXPECT_FALSE(view(full, 1, 2, i).equal(view(full, 1, 3, i)));
    EXPECT_FALSE(view(full, 1, 2, i).equal(view(full, 1, 2, i + 1)));
  }
  EXPECT_NEAR(grey, 20, 18);
}

}  // namespace
}  // namespace vrwkv::data::augment
