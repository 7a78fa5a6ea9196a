#include "train/schedule.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "tests/train/toy_run.h"

namespace vrwkv::testing {
namespace {

using config::ScheduleOptions;
using config::SchedulePolicy;
using train::learning_rate;

TEST(Schedule, WarmsUpAndEndsWhereItShould) {
  const ScheduleOptions options{.warmup_epochs = 0, .warmup_ratio = 1e-3, .min_lr_ratio = 0.01};
  EXPECT_NEAR(learning_rate(options, 1.0, 0, 100, 10), 1e-3, 1e-12);
  EXPECT_NEAR(learning_rate(options, 1.0, 100, 100, 10), 0.01, 1e-12);
  EXPECT_NEAR(learning_rate(options, 1.0, 50, 100, 10), 0.01 + 0.99 * 0.5, 1e-12);
  EXPECT_NEAR(learning_rate(options, 2.0, 0, 100, 0), 2.0, 1e-12);
  for (int64_t step = 10; step < 100; ++step) {
    EXPECT_GT(learning_rate(options, 1.0, step, 100, 10), learning_rate(options, 1.0, step + 1, 100, 10));
  }
}

// Twelve steps of three epochs by hand, without warm-up.
TEST(Schedule, LinearStepAndConstantByHand) {
  const auto rate = [](const ScheduleOptions& options, int64_t step) {
    return learning_rate(options, 2.0, step, 12, 0, 4);
  };
  const ScheduleOptions linear{.policy = SchedulePolicy::linear, .min_lr_ratio = 0.1};
  EXPECT_NEAR(rate(linear, 0), 2.0, 1e-12);
  EXPECT_NEAR(rate(linear, 3), 2.0 * (0.1 + 0.9 * 0.75), 1e-12);
  EXPECT_NEAR(rate(linear, 12), 0.2, 1e-12);
  const ScheduleOptions steps{.policy = SchedulePolicy::step, .step_epochs = 1, .gamma = 0.25, .min_lr_ratio = 0.1};
  EXPECT_EQ(rate(steps, 3), 2.0);
  EXPECT_EQ(rate(steps, 4), 0.5);
  EXPECT_EQ(rate(steps, 7), 0.5);
  EXPECT_EQ(rate(steps, 8), 0.2);  // 0.0625 is below the least share.
  const ScheduleOptions every_second{.policy = SchedulePolicy::step, .step_epochs = 2, .gamma = 0.25};
  EXPECT_EQ(rate(every_second, 7), 2.0);
  EXPECT_EQ(rate(every_second, 8), 0.5);
  const ScheduleOptions constant{.policy = SchedulePolicy::constant};
  for (const int64_t step : {0, 5, 12}) EXPECT_EQ(rate(constant, step), 2.0);
}

TEST(Schedule, ByEpochStandsStillWithinAnEpochButWarmsUp) {
  for (const SchedulePolicy policy : {SchedulePolicy::cosine, SchedulePolicy::linear}) {
    const ScheduleOptions smooth{.policy = policy}, steps{.policy = policy, .by_epoch = true};
    for (int64_t step = 0; step < 40; ++step) {
      EXPECT_EQ(learning_rate(steps, 1.0, step, 40, 0, 8), learning_rate(smooth, 1.0, step / 8 * 8, 40, 0, 8));
    }
    EXPECT_NEAR(learning_rate(steps, 1.0, 1, 40, 4, 8), 1.0 - 0.75 * (1 - 1e-3), 1e-12);
  }
}

TEST(Schedule, WarmUpIsGivenInEpochsOrInSteps) {
  EXPECT_EQ(train::warmup_length({.warmup_epochs = 1.5}, 7), 11);  // 10.5, rounded.
  EXPECT_EQ(train::warmup_length({.warmup_steps = 9, .warmup_epochs = 0}, 7), 9);
  EXPECT_EQ(train::warmup_length({.warmup_epochs = 0}, 7), 0);
}

using ScheduledRun = ToyRun;

// What the trainer uses is what the configuration says: the rates in metrics.jsonl, by hand.
TEST_F(ScheduledRun, TrainerFollowsEveryKeyOfTheSchedule) {
  const auto rates = [this](const char* name, const ScheduleOptions& schedule) {
    config_.train.schedule = schedule;
    const auto run = config(name);
    ToyTask task;
    train::Trainer(run, task, std::nullopt).run();
    std::vector<double> all;
    for (const auto& line : metrics(run, "train")) all.push_back(line["lr"].get<double>() / run.train.optimizer.lr);
    EXPECT_EQ(all.size(), 40U);
    return all;
  };
  const auto linear = rates("linear", {.policy = SchedulePolicy::linear, .warmup_steps = 4, .warmup_epochs = 0,
                                       .warmup_ratio = 0.2, .min_lr_ratio = 0.5});
  EXPECT_NEAR(linear[0], 0.2, 1e-9);
  EXPECT_NEAR(linear[2], (0.5 + 0.5 * (1 - 2 / 40.0)) * (1 - 0.5 * 0.8), 1e-9);
  EXPECT_NEAR(linear[20], 0.75, 1e-9);
  const auto by_epoch =
      rates("by_epoch", {.policy = SchedulePolicy::cosine, .by_epoch = true, .warmup_epochs = 0.1, .min_lr_ratio = 0});
  EXPECT_NEAR(by_epoch[0], 1e-3, 1e-9);
  EXPECT_NEAR(by_epoch[1], 1, 1e-9);
  EXPECT_NEAR(by_epoch[19], 0.5 * (1 + std::cos(std::numbers::pi / 4)), 1e-9);
  const auto steps = rates("steps", {.policy = SchedulePolicy::step, .step_epochs = 2, .gamma = 0.3});
  EXPECT_NEAR(steps[19], 1, 1e-9);
  EXPECT_NEAR(steps[20], 0.3, 1e-9);
  EXPECT_EQ(rates("constant", {.policy = SchedulePolicy::constant}), std::vector<double>(40, 1.0));
}

}  // namespace
}  // namespace vrwkv::testing
