#include "data/batch_augment/mix.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "data/batch_augment/augment_batch.h"
#include "tests/data/test_data.h"

namespace vrwkv::data {
namespace {

Generator generator_of(std::uint64_t index) { return {9, 1, index, RandomStream::mix}; }

enum class Kind { none, mixup, cutmix };

Kind kind_of(const MixedRow& row) {
  if (row.blend != 1.0) return Kind::mixup;
  return row.label == 1.0 && row.box.height * row.box.width == 0 ? Kind::none : Kind::cutmix;
}

double share_cut(const MixedRow& row, int64_t height, int64_t width) {
  return static_cast<double>(row.box.height * row.box.width) / static_cast<double>(height * width);
}

TEST(DrawMix, MixupsWeightIsOfTheBetaDistribution) {
  constexpr int kDraws = 20'000;
  for (const double alpha : {0.05, 0.8, 1.0, 6.0}) {
    double sum = 0, squares = 0;
    for (std::uint64_t i = 0; i < kDraws; ++i) {
      Generator generator = generator_of(i);
      const MixedRow row = draw_mix(1, 32, 32, {.mixup_alpha = alpha}, generator)[0];
      ASSERT_TRUE(row.blend >= 0 && row.blend <= 1) << row.blend;
      ASSERT_EQ(row.label, row.blend);
      ASSERT_EQ(row.box.height * row.box.width, 0);
      sum += row.blend;
      squares += (row.blend - 0.5) * (row.blend - 0.5);
    }
    const double variance = 1 / (4 * (2 * alpha + 1));
    EXPECT_NEAR(sum / kDraws, 0.5, 5 * std::sqrt(variance / kDraws)) << alpha;
    EXPECT_NEAR(squares / kDraws, variance, 0.03 * variance) << alpha;
  }
}

TEST(DrawMix, CutmixsLabelIsTheShareOfItsBox) {
  constexpr int kDraws = 20'000;
  double sum = 0;
  for (std::uint64_t i = 0; i < kDraws; ++i) {
    Generator generator = generator_of(i);
    const MixedRow row = draw_mix(1, 900, 1100, {.cutmix_alpha = 1.0}, generator)[0];
    ASSERT_TRUE(row.box.top >= 0 && row.box.left >= 0 && row.box.top + row.box.height <= 900 &&
                row.box.left + row.box.width <= 1100);
    ASSERT_EQ(row.blend, 1.0);
    ASSERT_DOUBLE_EQ(row.label, 1 - share_cut(row, 900, 1100));
    const bool whole = row.box.top > 0 && row.box.left > 0 && row.box.top + row.box.height < 900 &&
                       row.box.left + row.box.width < 1100;
    if (whole) {  // its sides are the same share of the image's
      ASSERT_NEAR(static_cast<double>(row.box.height) / 900, static_cast<double>(row.box.width) / 1100, 3.5 / 900);
    }
    sum += row.label;
  }
  // With u = 1 - lambda uniform, a side sqrt(u) and a uniform middle, (sqrt(u) - u/4)^2 is left of the box on average.
  EXPECT_NEAR(sum / kDraws, 1 - (1.0 / 2 - 1.0 / 5 + 1.0 / 48), 0.012);
}

TEST(DrawMix, ChoosesWithItsProbabilities) {
  constexpr int kDraws = 8000;
  const auto counts = [](const MixOptions& options) {
    std::array<int, 3> found{};
    for (std::uint64_t i = 0; i < kDraws; ++i) {
      Generator generator = generator_of(i);
      ++found.at(static_cast<std::size_t>(kind_of(draw_mix(2, 200, 200, options, generator)[0])));
    }
    return found;
  };
  const auto expect = [](const std::array<int, 3>& found, double none, double mixup, double cutmix) {
    EXPECT_NEAR(found[0], kDraws * none, 230);
    EXPECT_NEAR(found[1], kDraws * mixup, 230);
    EXPECT_NEAR(found[2], kDraws * cutmix, 230);
  };
  expect(counts({.mixup_alpha = 0.8, .cutmix_alpha = 1.0}), 0, 0.5, 0.5);  // as published for S and B
  expect(counts({.mixup_alpha = 0.8, .prob = 0.5}), 0.5, 0.5, 0);          // for L
  expect(counts({.mixup_alpha = 0.8, .cutmix_alpha = 1.0, .prob = 0.6, .switch_prob = 0.25}), 0.4, 0.45, 0.15);
  expect(counts({.cutmix_alpha = 1.0, .prob = 0.3}), 0.7, 0, 0.3);
}

TEST(DrawMix, ABatchHasOneDrawAndElementsTheirOwn) {
  Generator first = generator_of(3), second = generator_of(3);
  MixOptions options{.mixup_alpha = 1.0, .cutmix_alpha = 1.0};
  const auto batch = draw_mix(40, 64, 64, options, first);
  options.mode = MixMode::element;
  const auto elements = draw_mix(40, 64, 64, options, second);
  std::set<double> batch_labels, element_labels;
  std::set<Kind> kinds;
  std::set<int64_t> partners;
  for (std::size_t i = 0; i < 40; ++i) {
    batch_labels.insert(batch[i].label);
    element_labels.insert(elements[i].label);
    kinds.insert(kind_of(elements[i]));
    partners.insert(batch[i].partner);
    EXPECT_EQ(batch[i].box, batch[0].box);
  }
  EXPECT_EQ(batch_labels.size(), 1U);
  EXPECT_GT(element_labels.size(), 35U);
  EXPECT_TRUE(kinds.contains(Kind::mixup) && kinds.contains(Kind::cutmix));
  EXPECT_EQ(partners.size(), 40U);  // a permutation of 0 ... 39
  EXPECT_EQ(*partners.rbegin(), 39);
}

std::vector<MixedRow> some_rows() {
  MixedRow mixup{.partner = 2, .blend = 0.3, .box = {}, .label = 0.3};
  MixedRow cut{.partner = 0, .blend = 1.0, .box = {1, 2, 3, 4}, .label = 0.6};
  MixedRow plain{.partner = 1, .blend = 1.0, .box = {}, .label = 1.0};
  return {mixup, cut, plain};
}

TEST(MixImages, EqualsTheWrittenOutFormula) {
  const at::Tensor images = at::randn({3, 3, 5, 7}, at::kDouble);
  const auto rows = some_rows();
  const at::Tensor mixed = mix_images(images, rows);
  for (int64_t b = 0; b < 3; ++b) {
    const MixedRow& row = rows[static_cast<std::size_t>(b)];
    for (int64_t c = 0; c < 3; ++c) {
      for (int64_t y = 0; y < 5; ++y) {
        for (int64_t x = 0; x < 7; ++x) {
          const bool inside = y >= row.box.top && y < row.box.top + row.box.height && x >= row.box.left &&
                              x < row.box.left + row.box.width;
          const double own = images[b][c][y][x].item<double>(), other = images[row.partner][c][y][x].item<double>();
          const double expected = inside ? other : row.blend * own + (1 - row.blend) * other;
          ASSERT_NEAR(mixed[b][c][y][x].item<double>(), expected, 1e-12) << b << c << y << x;
        }
      }
    }
  }
  EXPECT_TRUE(mixed[2].equal(images[2]));
  EXPECT_EQ(mix_images(images.to(at::kBFloat16), rows).scalar_type(), at::kBFloat16);
}

TEST(MixLabels, GivesSharesThatAddUpToOne) {
  const at::Tensor labels = at::tensor({4, 1, 4}, at::kLong);
  auto rows = some_rows();
  const at::Tensor targets = mix_labels(labels, rows, 6);
  at::Tensor expected = at::zeros({3, 6});
  expected[0][4] = 1.0;  // both images are of class 4
  expected[1][1] = 0.6;
  expected[1][4] = 0.4;
  expected[2][4] = 1.0;
  EXPECT_EQ(targets.scalar_type(), at::kFloat);
  EXPECT_TRUE(targets.allclose(expected, 0, 1e-6)) << targets;
}

TEST(Mix, RefusesOtherTensors) {
  const auto rows = some_rows();
  EXPECT_THROW(mix_images(at::zeros({3, 3, 5, 7}, at::kByte), rows), c10::Error);
  EXPECT_THROW(mix_images(at::zeros({2, 3, 5, 7}), rows), c10::Error);
  EXPECT_THROW(mix_labels(at::zeros({3}), rows, 6), c10::Error);
  EXPECT_THROW(mix_labels(at::zeros({2}, at::kLong), rows, 6), c10::Error);
}

TEST(AugmentBatch, MixesByItsPlaceAlone) {
  DataOptions options;
  options.mix = {.mixup_alpha = 0.8, .cutmix_alpha = 1.0, .mode = MixMode::element};
  const at::Tensor images = at::randn({8, 3, 16, 16}), labels = at::arange(8) % 5;
  const std::vector<int64_t> views{0, 1, 2, 3, 4, 5, 6, 7};
  const auto mixed = [&](const BatchPlace& place) {
    return augment_batch(images.clone(), labels, views, options, 5, place);
  };
  const AugmentedBatch one = mixed({3, 4, 5});
  EXPECT_TRUE(one.targets.sum(1).allclose(at::ones({8})));
  EXPECT_EQ(one.targets.sizes(), (std::vector<int64_t>{8, 5}));
  EXPECT_TRUE(one.images.equal(mixed({3, 4, 5}).images));
  EXPECT_TRUE(one.targets.equal(mixed({3, 4, 5}).targets));
  for (const BatchPlace& place : {BatchPlace{2, 4, 5}, BatchPlace{3, 3, 5}, BatchPlace{3, 4, 6}}) {
    EXPECT_FALSE(one.images.equal(mixed(place).images));
  }
}

}  // namespace
}  // namespace vrwkv::data
