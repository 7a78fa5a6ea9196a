#include "train/anomaly.h"

#include <gtest/gtest.h>
#include <torch/utils.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <random>
#include <sstream>

#include "tests/train/loggers_case.h"
#include "train/anomaly_report.h"

namespace vrwkv::testing {
namespace {

using config::AnomalyAnswer;
using train::Anomaly;
using train::AnomalyMonitor;
using train::WatchState;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

train::StepResult result(double loss, double grad_norm, std::optional<bool> skipped = std::nullopt) {
  train::StepResult result{.loss = torch::tensor(loss, torch::kDouble),
                           .grad_norm = torch::tensor(grad_norm, torch::kDouble),
                           .skipped = {}};
  if (skipped) result.skipped = torch::tensor(*skipped ? 1.0F : 0.0F);
  return result;
}

std::vector<int64_t> steps_of(const std::vector<Anomaly>& found) {
  std::vector<int64_t> steps;
  for (const Anomaly& anomaly : found) steps.push_back(anomaly.step);
  return steps;
}

/// The definition, by sorting: spikes among `values`, the first of which is of step 1.
std::vector<int64_t> spikes(const std::vector<double>& values, double factor, size_t window) {
  std::vector<double> ordinary;
  std::vector<int64_t> found;
  for (size_t i = 0; i < values.size(); ++i) {
    if (ordinary.size() >= window) {
      std::vector<double> last(ordinary.end() - static_cast<std::ptrdiff_t>(window), ordinary.end());
      std::sort(last.begin(), last.end());
      const double median = (last[(window - 1) / 2] + last[window / 2]) / 2;
      if (values[i] > factor * median) {
        found.push_back(static_cast<int64_t>(i) + 1);
        continue;
      }
    }
    ordinary.push_back(values[i]);
  }
  return found;
}

TEST(AnomalyMonitorTest, FindsTheSpikesOfTheDefinitionHoweverOftenItLooks) {
  std::mt19937 random(5);
  std::lognormal_distribution<double> noise(0, 1);
  for (const int64_t window : {1, 2, 5, 8}) {
    std::vector<double> losses(300), norms(300, 1.0);
    for (double& value : losses) value = noise(random);
    const auto expected = spikes(losses, 3, static_cast<size_t>(window));
    ASSERT_GT(expected.size(), 3U);
    for (const int64_t every : {1, 7, 300}) {
      AnomalyMonitor of_losses({.spike_factor = 3, .window = window}, every, false);
      AnomalyMonitor of_norms({.spike_factor = 3, .window = window}, every, false);
      WatchState one, other;
      std::vector<int64_t> found_losses, found_norms;
      for (int64_t step = 1; step <= 300; ++step) {
        const auto i = static_cast<size_t>(step - 1);
        of_losses.record(step, result(losses[i], norms[i]), {});
        of_norms.record(step, result(norms[i], losses[i]), {});
        if (step % every != 0 && step != 300) continue;
        for (const int64_t s : steps_of(of_losses.look(one))) found_losses.push_back(s);
        for (const int64_t s : steps_of(of_norms.look(other))) found_norms.push_back(s);
      }
      EXPECT_EQ(found_losses, expected) << window << " " << every;
      EXPECT_EQ(found_norms, expected) << window << " " << every;
    }
  }
}

TEST(AnomalyMonitorTest, SaysWhatIsWrongWithWhichFiles) {
  AnomalyMonitor monitor({.spike_factor = 10, .window = 3}, 10, false);
  WatchState state;
  for (int64_t step = 1; step <= 3; ++step) monitor.record(step, result(2, 4), {"x"});
  monitor.record(4, result(2, 50), {"c.png", "d.png"});
  monitor.record(5, result(-kNan, 1), {"e.png"});
  monitor.record(6, result(1, kInfinity), {"f.png"});
  monitor.record(7, result(1, 1), {"g.png"});
  const auto found = monitor.look(state);
  ASSERT_EQ(steps_of(found), (std::vector<int64_t>{4, 5, 6}));
  EXPECT_EQ(found[0].what, "the gradient norm 50 is 12.5 times its median 4 over 3 steps");
  EXPECT_EQ(found[0].files, (std::vector<std::string>{"c.png", "d.png"}));
  EXPECT_EQ(found[1].what, "the loss is nan");
  EXPECT_EQ(found[2].what, "the gradient norm is inf");
  EXPECT_EQ(found[2].in_a_row, 3);
  EXPECT_EQ(state.in_a_row, 0);
  EXPECT_EQ(monitor.reading(7)->loss, 1.0);
  EXPECT_FALSE(monitor.reading(6));
  EXPECT_TRUE(monitor.look(state).empty());
}

TEST(AnomalyMonitorTest, WithoutAFactorOnlyWhatIsNotFiniteCounts) {
  AnomalyMonitor monitor({}, 200, false);
  WatchState state;
  for (int64_t step = 1; step <= 150; ++step) monitor.record(step, result(1, 1), {});
  monitor.record(151, result(1e30, 1e30), {});
  monitor.record(152, result(-kInfinity, 1), {});
  EXPECT_EQ(steps_of(monitor.look(state)), (std::vector<int64_t>{152}));
  EXPECT_TRUE(state.losses.empty());
}

TEST(AnomalyMonitorTest, OverflowsThatTheLossScaleAnswersToAreNone) {
  AnomalyMonitor monitor({.spike_factor = 2, .window = 1}, 9, true);
  WatchState state;
  monitor.record(1, result(1, 1), {});
  monitor.record(2, result(1, kInfinity, true), {});
  monitor.record(3, result(1, kNan, true), {});
  monitor.record(4, result(1, 3), {});
  monitor.record(5, result(kNan, kNan, true), {});
  EXPECT_EQ(steps_of(monitor.look(state)), (std::vector<int64_t>{4, 5}));
}

TEST(AnomalyMonitorTest, ForSkippingTheDevicesJudgementCountsAndGetsItsLimit) {
  AnomalyMonitor monitor({.answer = AnomalyAnswer::skip, .spike_factor = 4, .window = 3}, 9, false);
  WatchState state;
  const double most = std::numeric_limits<float>::max();
  monitor.record(1, result(1, 2, false), {});
  monitor.record(2, result(1, 8, false), {});
  monitor.look(state);
  EXPECT_EQ(monitor.skip_above(state), most);  // The window is not full.
  monitor.record(3, result(1, 3, false), {});
  monitor.record(4, result(100, 900, false), {});  // Let through under the former limit.
  monitor.look(state);
  EXPECT_EQ(monitor.skip_above(state), 4 * 8);  // The median of 8, 3 and 900.
  state.skip_above = 32;
  monitor.record(5, result(1, 33, true), {});
  const auto found = monitor.look(state);
  ASSERT_EQ(steps_of(found), (std::vector<int64_t>{5}));
  EXPECT_EQ(found[0].what, "the gradient norm 33 is above the limit 32");
  EXPECT_TRUE(found[0].skipped);
  EXPECT_EQ(AnomalyMonitor({.spike_factor = 4, .window = 3}, 9, false).skip_above(state), most);
}

TEST(AnomalyMonitorTest, RefusesMoreStepsThanItHoldsAndForgets) {
  AnomalyMonitor monitor({}, 1, false);
  WatchState state;
  monitor.record(1, result(kNan, 1), {});
  EXPECT_THROW(monitor.record(2, result(1, 1), {}), std::logic_error);
  EXPECT_EQ(monitor.look(state).size(), 1U);
  EXPECT_TRUE(monitor.reading(1));
  monitor.record(2, result(kNan, 1), {});
  monitor.clear();
  EXPECT_TRUE(monitor.look(state).empty());
  EXPECT_FALSE(monitor.reading(1));
}

TEST(AnomalyReportTest, TheLineNamesAFewFilesAndCountsTheRest) {
  Anomaly anomaly{
      .step = 7, .loss = 2.5, .grad_norm = 3, .what = "the loss is odd", .files = {"a", "b", "c", "d", "e"}};
  EXPECT_EQ(train::anomaly_line({anomaly}),
            "the loss is odd at step 7 (loss 2.5, gradient norm 3); its batch: a, b, c and 2 more; all files are in "
            "anomalies.jsonl");
  Anomaly later = anomaly;
  later.step = 9;
  anomaly.files = {"a"};
  EXPECT_EQ(train::anomaly_line({anomaly, later, later}),
            "the loss is odd at step 7 (loss 2.5, gradient norm 3); its batch: a; then 2 more anomalous steps up to "
            "step 9; all files are in anomalies.jsonl");
}

using AnomalyFileTest = LoggersTest;

TEST_F(AnomalyFileTest, IsAHistoryOfJsonLinesWhateverTheNames) {
  const std::string latin1 = "caf\xE9.png";  // A file name need not be UTF-8.
  train::append_anomalies(folder_, {{.step = 3, .loss = kNan, .grad_norm = 2, .what = "w", .files = {"a", latin1}}});
  Anomaly second;
  second.skipped = true;
  train::append_anomalies(folder_, {second});
  std::istringstream text(read_text(folder_ / "anomalies.jsonl"));
  std::vector<nlohmann::json> lines;
  for (std::string line; std::getline(text, line);) lines.push_back(nlohmann::json::parse(line));
  ASSERT_EQ(lines.size(), 2U);
  EXPECT_EQ(lines[0]["step"], 3);
  EXPECT_EQ(lines[0]["what"], "w");
  EXPECT_TRUE(lines[0]["loss"].is_null());
  EXPECT_EQ(lines[0]["grad_norm"], 2.0);
  EXPECT_EQ(lines[0]["skipped"], false);
  EXPECT_EQ(lines[0]["files"][0], "a");
  EXPECT_EQ(lines[0]["files"].size(), 2U);
  EXPECT_EQ(lines[1]["skipped"], true);
  EXPECT_THROW(train::append_anomalies(folder_ / "nowhere", {{}}), std::runtime_error);
}

}  // namespace
}  // namespace vrwkv::testing
