#include "eval/metrics/accuracy.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <stdexcept>

#include "tests/support/devices.h"

namespace vrwkv::eval {
namespace {

/// Adds an image to `expected` the long way: sorts the classes, and looks where the label stands.
void count_naively(const std::vector<double>& logits, int64_t label, Accuracy& expected, long double& loss_sum) {
  std::vector<std::size_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return logits[a] > logits[b]; });
  const auto place = std::find(order.begin(), order.end(), static_cast<std::size_t>(label)) - order.begin();
  const bool valid = std::none_of(logits.begin(), logits.end(), [](double x) { return std::isnan(x); });
  const AccuracyCounts one{1, valid && place == 0 ? 1 : 0, valid && place < 5 ? 1 : 0};
  for (AccuracyCounts* counts : {static_cast<AccuracyCounts*>(&expected), &expected.classes.at(label)}) {
    counts->images += one.images;
    counts->correct1 += one.correct1;
    counts->correct5 += one.correct5;
  }
  const double highest = *std::max_element(logits.begin(), logits.end());
  long double sum = 0;
  for (const double x : logits) sum += std::exp(static_cast<long double>(x) - highest);
  loss_sum += highest + std::log(sum) - static_cast<long double>(logits[static_cast<std::size_t>(label)]);
}

/// Random logits of a few distinct values, so that there are many ties, and a share of rows with a NaN.
at::Tensor random_logits(int64_t rows, int64_t classes, double nan_share) {
  at::Tensor logits = at::randint(-3, 4, {rows, classes}, at::kDouble) * 0.5;
  const at::Tensor row_has_nan = at::rand({rows, 1}) < nan_share;
  const at::Tensor here = at::randint(classes, {rows, 1}) == at::arange(classes).unsqueeze(0);
  return logits.masked_fill(row_has_nan.logical_and(here), std::numeric_limits<double>::quiet_NaN());
}

std::vector<double> row_of(const at::Tensor& logits, int64_t row) {
  const at::Tensor values = logits[row].to(at::kCPU, at::kDouble).contiguous();
  return {values.const_data_ptr<double>(), values.const_data_ptr<double>() + values.numel()};
}

class AccuracyOnDevice : public ::testing::TestWithParam<at::Device> {};

INSTANTIATE_TEST_SUITE_P(Devices, AccuracyOnDevice, ::testing::ValuesIn(testing::devices()),
                         [](const auto& instance) { return instance.param.is_cuda() ? "cuda" : "cpu"; });

TEST_P(AccuracyOnDevice, AgreesWithSortingEveryRow) {
  at::manual_seed(1);
  for (const at::ScalarType dtype : {at::kDouble, at::kFloat, at::kBFloat16}) {
    for (const int64_t classes : {1, 2, 4, 5, 6, 17, 100}) {
      AccuracyMeter meter(classes, GetParam());
      Accuracy expected;
      expected.classes.resize(static_cast<std::size_t>(classes));
      long double loss_sum = 0;
      for (const int64_t rows : {1, 0, 33, 64}) {
        const at::Tensor logits = random_logits(rows, classes, 0.0).to(dtype);
        const at::Tensor labels = at::randint(classes, {rows}, at::kLong);
        meter.update(logits.to(GetParam()), labels.to(GetParam()));
        for (int64_t i = 0; i < rows; ++i)
          count_naively(row_of(logits, i), labels[i].item<int64_t>(), expected, loss_sum);
      }
      const Accuracy result = meter.result();
      EXPECT_EQ(static_cast<AccuracyCounts>(result), static_cast<AccuracyCounts>(expected)) << classes << " classes";
      EXPECT_EQ(result.classes, expected.classes) << classes << " classes";
      EXPECT_NEAR(result.loss, static_cast<double>(loss_sum / 98), 1e-12 * (1 + std::abs(result.loss)));
    }
  }
}

/// Several right classes: the best placed one counts; groups of their own; classes that do not count.
TEST_P(AccuracyOnDevice, SeveralRightClassesAgreeWithSortingEveryRow) {
  at::manual_seed(2);
  constexpr int64_t kRows = 200, kGroups = 3;
  for (const int64_t classes : {2, 6, 30}) {
    const at::Tensor counted = (at::rand({classes}) < 0.7).index_fill_(0, at::tensor({0, 1}, at::kLong), true);
    const at::Tensor logits = random_logits(kRows, classes, 0.0).masked_fill(counted.logical_not(), -INFINITY);
    at::Tensor right = (at::rand({kRows, classes}) < 0.2).logical_and(counted);
    right.select(1, 1).logical_or_(right.any(1).logical_not());
    const at::Tensor groups = at::randint(kGroups, {kRows}, at::kLong);
    AccuracyMeter meter(classes, GetParam(), kGroups);
    meter.update(logits.to(GetParam()), right.to(GetParam()), groups.to(GetParam()));
    Accuracy expected;
    expected.classes.resize(kGroups);
    long double loss = 0;
    for (int64_t i = 0; i < kRows; ++i) {
      const std::vector<double> row = row_of(logits, i);
      std::vector<int64_t> order(row.size());
      std::iota(order.begin(), order.end(), 0);
      std::ranges::stable_sort(order, std::greater<>{}, [&](int64_t c) { return row[static_cast<std::size_t>(c)]; });
      const auto best =
          std::ranges::find_if(order, [&](int64_t c) { return right[i][c].item<bool>(); }) - order.begin();
      long double all = 0, of_right = 0;
      for (int64_t c = 0; c < classes; ++c) {
        const long double share = std::exp(static_cast<long double>(row[static_cast<std::size_t>(c)]));
        all += share;
        if (right[i][c].item<bool>()) of_right += share;
      }
      loss -= std::log(of_right / all);
      AccuracyCounts& group = expected.classes[static_cast<std::size_t>(groups[i].item<int64_t>())];
      group.images += 1;
      group.correct1 += best == 0 ? 1 : 0;
      group.correct5 += best < 5 ? 1 : 0;
    }
    const Accuracy result = meter.result();
    EXPECT_EQ(result.classes, expected.classes) << classes << " classes";
    EXPECT_EQ(result.images, kRows);
    EXPECT_NEAR(result.loss, static_cast<double>(loss / kRows), 1e-12);
  }
  AccuracyMeter meter(4, GetParam(), 2);
  const at::Tensor logits = at::zeros({1, 4}, at::TensorOptions(GetParam()));
  const at::Tensor group = at::zeros({1}, at::TensorOptions(GetParam()).dtype(at::kLong));
  EXPECT_THROW(meter.update(logits, logits, group), std::invalid_argument);
}

TEST_P(AccuracyOnDevice, RowsWithNanAreWrong) {
  at::manual_seed(2);
  const int64_t classes = 7;
  AccuracyMeter meter(classes, GetParam());
  Accuracy expected;
  expected.classes.resize(classes);
  long double loss_sum = 0;
  const at::Tensor logits = random_logits(200, classes, 0.3);
  const at::Tensor labels = at::randint(classes, {200}, at::kLong);
  meter.update(logits.to(GetParam()), labels.to(GetParam()));
  for (int64_t i = 0; i < 200; ++i) count_naively(row_of(logits, i), labels[i].item<int64_t>(), expected, loss_sum);
  const Accuracy result = meter.result();
  EXPECT_EQ(result.classes, expected.classes);
  EXPECT_LT(result.correct5, 160);
  EXPECT_TRUE(std::isnan(result.loss));
}

TEST_P(AccuracyOnDevice, MergingIsCountingTogether) {
  at::manual_seed(3);
  AccuracyMeter all(9, GetParam()), first(9, GetParam()), second(9, at::kCPU);
  const at::Tensor logits = at::randn({60, 9}), labels = at::randint(9, {60}, at::kLong);
  all.update(logits.to(GetParam()), labels.to(GetParam()));
  first.update(logits.slice(0, 0, 41).to(GetParam()), labels.slice(0, 0, 41).to(GetParam()));
  second.update(logits.slice(0, 41), labels.slice(0, 41));
  first.merge(second);
  EXPECT_EQ(first.result().classes, all.result().classes);
  EXPECT_NEAR(first.result().loss, all.result().loss, 1e-12);
}

TEST(Accuracy, OfEqualLogitsTheLowerClassComesFirst) {
  AccuracyMeter meter(8, at::kCPU);
  meter.update(at::zeros({8, 8}), at::arange(8));
  const Accuracy result = meter.result();
  EXPECT_EQ(result.correct1, 1);
  EXPECT_EQ(result.correct5, 5);
  EXPECT_EQ(result.classes[0].correct1, 1);
  EXPECT_EQ(result.classes[4].correct5, 1);
  EXPECT_EQ(result.classes[5].correct5, 0);
  EXPECT_NEAR(result.loss, std::log(8.0), 1e-15);
}

TEST(Accuracy, FewerThanFiveClassesAreAllTopFive) {
  AccuracyMeter meter(3, at::kCPU);
  meter.update(at::tensor({3.0, 2.0, 1.0, NAN, 2.0, 1.0}).view({2, 3}), at::tensor({2, 2}, at::kLong));
  EXPECT_EQ(meter.result().correct1, 0);
  EXPECT_EQ(meter.result().correct5, 1);
}

TEST(Accuracy, AnInfiniteLogitIsTheHighest) {
  AccuracyMeter meter(6, at::kCPU);
  at::Tensor logits = at::randn({1, 6});
  logits[0][5] = std::numeric_limits<double>::infinity();
  meter.update(logits, at::tensor({5}, at::kLong));
  EXPECT_EQ(meter.result().correct1, 1);
}

TEST(Accuracy, NothingCountedIsZero) {
  const AccuracyMeter meter(4, at::kCPU);
  const Accuracy result = meter.result();
  EXPECT_EQ(result.images, 0);
  EXPECT_EQ(result.top1(), 0.0);
  EXPECT_EQ(result.top5(), 0.0);
  EXPECT_EQ(result.loss, 0.0);
  EXPECT_EQ(result.classes.size(), 4u);
}

TEST(Accuracy, PercentagesComeFromTheCounts) {
  const AccuracyCounts counts{8, 1, 7};
  EXPECT_EQ(counts.top1(), 12.5);
  EXPECT_EQ(counts.top5(), 87.5);
}

TEST(Accuracy, RefusesOtherShapes) {
  EXPECT_THROW(AccuracyMeter(0, at::kCPU), std::invalid_argument);
  AccuracyMeter meter(4, at::kCPU);
  const at::Tensor labels = at::zeros({3}, at::kLong);
  EXPECT_THROW(meter.update(at::zeros({3, 5}), labels), std::invalid_argument);
  EXPECT_THROW(meter.update(at::zeros({2, 4}), labels), std::invalid_argument);
  EXPECT_THROW(meter.update(at::zeros({3, 4}, at::kLong), labels), std::invalid_argument);
  EXPECT_THROW(meter.update(at::zeros({3, 4}), labels.to(at::kInt)), std::invalid_argument);
  EXPECT_THROW(meter.update(at::zeros({3}), labels), std::invalid_argument);
  EXPECT_THROW(meter.merge(AccuracyMeter(5, at::kCPU)), std::invalid_argument);
  EXPECT_EQ(meter.result().images, 0);
}

}  // namespace
}  // namespace vrwkv::eval
