#include "data/batch_augment/erase.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "data/batch_augment/augment_batch.h"
#include "tests/data/test_data.h"

namespace vrwkv::data {
namespace {

Generator generator_of(std::uint64_t index) { return {7, 0, index, RandomStream::erasing}; }

TEST(ErasingBoxes, DrawAreaAspectAndPlaceUniformly) {
  // At most 0.3 of a square and sides within 1 : 2: every draw fits, so that none is repeated.
  const ErasingOptions options{.prob = 1.0, .area = {0.1, 0.3}, .ratio = {0.5, 2.0}};
  constexpr int kDraws = 20'000;
  constexpr int64_t kSide = 2000;
  double area = 0, area_squares = 0, aspect = 0, aspect_squares = 0, middle_y = 0, middle_x = 0;
  for (std::uint64_t i = 0; i < kDraws; ++i) {
    Generator generator = generator_of(i);
    const auto boxes = erasing_boxes(kSide, kSide, options, generator);
    ASSERT_EQ(boxes.size(), 1U);
    const Box& box = boxes[0];
    ASSERT_TRUE(box.top >= 0 && box.left >= 0 && box.top + box.height <= kSide && box.left + box.width <= kSide);
    const double share = static_cast<double>(box.height * box.width) / (kSide * kSide);
    const double log_ratio = std::log(static_cast<double>(box.height) / static_cast<double>(box.width));
    ASSERT_NEAR(share, 0.2, 0.1005);
    ASSERT_LE(std::abs(log_ratio), std::log(2.0) + 0.002);
    area += share;
    area_squares += share * share;
    aspect += log_ratio;
    aspect_squares += log_ratio * log_ratio;
    middle_y += (static_cast<double>(box.top) + static_cast<double>(box.height) / 2) / kSide;
    middle_x += (static_cast<double>(box.left) + static_cast<double>(box.width) / 2) / kSide;
  }
  EXPECT_NEAR(area / kDraws, 0.2, 2.1e-3);
  EXPECT_NEAR(area_squares / kDraws, 0.04 + 0.04 / 12, 1e-3);
  EXPECT_NEAR(aspect / kDraws, 0.0, 5 * std::log(2.0) / std::sqrt(3.0 * kDraws));
  EXPECT_NEAR(aspect_squares / kDraws, std::pow(std::log(2.0), 2) / 3, 6e-3);
  EXPECT_NEAR(middle_y / kDraws, 0.5, 0.01);
  EXPECT_NEAR(middle_x / kDraws, 0.5, 0.01);
}

TEST(ErasingBoxes, ComeWithTheirProbabilityAndNumber) {
  constexpr int kDraws = 8000;
  const ErasingOptions options{.prob = 0.25, .area = {0.02, 0.3}, .max_count = 3};
  std::array<int, 4> counts{};
  for (std::uint64_t i = 0; i < kDraws; ++i) {
    Generator generator = generator_of(i);
    const auto boxes = erasing_boxes(224, 160, options, generator);
    ++counts.at(boxes.size());
    int64_t area = 0;
    for (const Box& box : boxes) area += box.height * box.width;
    ASSERT_LE(static_cast<double>(area), 0.31 * 224 * 160);
  }
  EXPECT_NEAR(counts[0], 6000, 200);
  for (std::size_t i = 1; i <= 3; ++i) EXPECT_NEAR(counts[i], 667, 130) << i;
  Generator generator = generator_of(0);
  EXPECT_TRUE(erasing_boxes(224, 160, {.prob = 0.0}, generator).empty());
}

TEST(ErasingBoxes, AreLeftOutWhereNoneFits) {
  Generator generator = generator_of(1);
  EXPECT_TRUE(erasing_boxes(40, 40, {.prob = 1.0, .area = {1.0, 1.0}, .ratio = {1.0, 1.0}}, generator).empty());
  EXPECT_TRUE(erasing_boxes(1, 1, {.prob = 1.0, .area = {1.0, 1.0}}, generator).empty());
}

TEST(Erase, FillsTheBoxesAndNothingElse) {
  const at::Tensor images = at::arange(2 * 3 * 40 * 50, at::kFloat).view({2, 3, 40, 50}) + 10;
  const std::vector<std::vector<Box>> boxes{{{0, 0, 5, 7}, {30, 20, 10, 30}}, {}};
  at::Tensor inside = at::zeros({2, 1, 40, 50}, at::kBool);
  for (const Box& box : boxes[0])
    inside[0][0].narrow(0, box.top, box.height).narrow(1, box.left, box.width).fill_(true);
  at::Tensor zeroed = images.clone();
  erase(zeroed, boxes, ErasingFill::zero, 1);
  EXPECT_TRUE(zeroed.equal(images.masked_fill(inside, 0)));

  at::Tensor noisy = images.clone(), again = images.clone(), other = images.clone();
  erase(noisy, boxes, ErasingFill::noise, 1);
  erase(again, boxes, ErasingFill::noise, 1);
  erase(other, boxes, ErasingFill::noise, 2);
  EXPECT_TRUE(noisy.masked_fill(inside, 0).equal(zeroed));
  EXPECT_TRUE(noisy.equal(again));
  EXPECT_FALSE(noisy.equal(other));
  const at::Tensor noise = noisy.masked_select(inside).to(at::kDouble);  // 3 * (35 + 300) values, each its own
  ASSERT_EQ(noise.numel(), 1005);
  EXPECT_NEAR(noise.mean().item<double>(), 0.0, 5 / std::sqrt(1005));
  EXPECT_NEAR(noise.std().item<double>(), 1.0, 5 / std::sqrt(2 * 1005));
  EXPECT_FALSE(noisy[0][0].narrow(0, 30, 10).equal(noisy[0][1].narrow(0, 30, 10)));
}

TEST(Erase, TakesNothingFromTheGlobalGenerator) {
  at::Tensor images = at::zeros({1, 3, 8, 8});
  at::manual_seed(3);
  const at::Tensor expected = at::rand({4});
  at::manual_seed(3);
  erase(images, {{{0, 0, 8, 8}}}, ErasingFill::noise, 1);
  EXPECT_TRUE(at::rand({4}).equal(expected));
}

TEST(Erase, RefusesOtherTensors) {
  EXPECT_THROW(erase(at::zeros({1, 3, 8, 8}, at::kByte), {{}}, ErasingFill::zero, 1), c10::Error);
  EXPECT_THROW(erase(at::zeros({3, 8, 8}), {{}}, ErasingFill::zero, 1), c10::Error);
  EXPECT_THROW(erase(at::zeros({2, 3, 8, 8}), {{}}, ErasingFill::zero, 1), c10::Error);
}

// A sample's boxes belong to it, wherever it stands in the batch.
TEST(AugmentBatch, ErasesASampleWhereverItStands) {
  DataOptions options;
  options.train_transform.erasing = {.prob = 0.7, .fill = ErasingFill::zero};
  EXPECT_TRUE(augments_batches(options));
  EXPECT_FALSE(augments_batches({}));
  const auto erased = [&](const std::vector<int64_t>& views, int64_t epoch) {
    const auto count = static_cast<int64_t>(views.size());
    return augment_batch(at::ones({count, 3, 20, 20}), at::arange(count), views, options, 10, {5, epoch, 3}).images;
  };
  const at::Tensor forth = erased({3, 8, 11, 40}, 1), back = erased({40, 11, 8, 3}, 1);
  EXPECT_TRUE(forth.equal(back.flip(0)));
  EXPECT_LT(forth.mean().item<double>(), 1.0);
  EXPECT_FALSE(forth.equal(erased({3, 8, 11, 40}, 2)));
  const at::Tensor labels = at::arange(4);
  EXPECT_TRUE(augment_batch(at::ones({4, 3, 8, 8}), labels, {0, 1, 2, 3}, options, 10, {}).targets.equal(labels));
}

}  // namespace
}  // namespace vrwkv::data
