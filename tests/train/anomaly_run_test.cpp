#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "tests/train/loggers_case.h"
#include "tests/train/toy_run.h"

namespace vrwkv::testing {
namespace {

namespace fs = std::filesystem;
using config::AnomalyAnswer;

/// What the trainer does about anomalies of the toy's batches; batch b is that of step b + 1.
class AnomalyRun : public ToyRun {
 protected:
  /// Runs and returns the message of the error that ends the run; empty if there is none.
  static std::string run(const config::RunConfig& config, ToyTask& task, std::optional<std::string> resume = {}) {
    try {
      train::Trainer(config, task, resume).run();
      return "";
    } catch (const std::runtime_error& error) {
      return error.what();
    }
  }

  static std::vector<nlohmann::json> anomalies(const config::RunConfig& config) {
    std::ifstream file(fs::path(config.run.output_dir) / "anomalies.jsonl");
    std::vector<nlohmann::json> all;
    for (std::string line; std::getline(file, line);) all.push_back(nlohmann::json::parse(line));
    return all;
  }

  static int64_t last_step(const config::RunConfig& config) {
    const auto path = fs::path(config.run.output_dir) / "checkpoints" / "last.safetensors";
    return nlohmann::json::parse(train::read_checkpoint(path).metadata.at("train_state")).at("step");
  }

  static std::vector<int64_t> logged_steps(const config::RunConfig& config) {
    std::vector<int64_t> steps;
    for (const auto& line : metrics(config, "train")) steps.push_back(line["step"]);
    return steps;
  }
};

TEST_F(AnomalyRun, StopNamesStepAndFilesAndKeepsTheCheckpointOfBefore) {
  const auto options = config("run");
  ToyTask task;
  task.factors = {{11, kNan}};
  const std::string error = run(options, task);
  EXPECT_NE(error.find("the loss is nan at step 12 (loss nan, gradient norm nan); its batch: 1/1a, 1/1b, 1/1c and 1 "
                       "more;"),
            std::string::npos)
      << error;
  EXPECT_NE(error.find("resume from " + (folder_ / "run" / "checkpoints" / "last.safetensors").string()),
            std::string::npos)
      << error;
  EXPECT_EQ(last_step(options), 10);
  ASSERT_EQ(losses(options).size(), 12U);
  EXPECT_TRUE(losses(options).back()[1].is_null());
  ASSERT_EQ(anomalies(options).size(), 1U);
  EXPECT_EQ(anomalies(options)[0]["files"], (std::vector<std::string>{"1/1a", "1/1b", "1/1c", "1/1d"}));
  EXPECT_TRUE(read_text(folder_ / "run" / "train.csv").find("\n12,1.2,,") != std::string::npos);
}

TEST_F(AnomalyRun, FindsTheVeryStepBetweenTwoLoggedOnesAndBeforeACheckpoint) {
  config_.train.log_every = 1000;  // Never due.
  config_.train.checkpoint_every_steps = 4;
  config_.train.grad_accumulation = 2;
  config_.train.batch_size = 8;  // Five steps an epoch.
  const auto options = config("run");
  ToyTask task;
  task.factors = {{11, kNan}};  // Epoch 1, second part of its first step: the sixth.
  const std::string error = run(options, task);
  EXPECT_NE(error.find("the loss is nan at step 6 "), std::string::npos) << error;
  EXPECT_NE(error.find("then 2 more anomalous steps up to step 8"), std::string::npos) << error;
  EXPECT_EQ(last_step(options), 5);  // Not 8, whose weights are NaN.
  EXPECT_EQ(anomalies(options).at(0)["files"].size(), 8U);
  EXPECT_EQ(anomalies(options).at(0)["files"][4], "1/1a");
}

TEST_F(AnomalyRun, NoneGoesOnAndLogsWhatIsThere) {
  config_.train.anomaly.answer = AnomalyAnswer::none;
  const auto options = config("run");
  ToyTask task;
  task.factors = {{35, kNan}};
  EXPECT_EQ(run(options, task), "");
  ASSERT_EQ(losses(options).size(), 40U);
  EXPECT_FALSE(losses(options)[34][1].is_null());
  for (size_t i = 35; i < 40; ++i) EXPECT_TRUE(losses(options)[i][1].is_null() && losses(options)[i][3].is_null());
  EXPECT_EQ(anomalies(options).size(), 5U);
}

TEST_F(AnomalyRun, StopsAtASpikeAboveTheMedianOnly) {
  config_.train.anomaly = {.answer = AnomalyAnswer::stop, .spike_factor = 200, .window = 5};
  const auto calm = config("calm");
  ToyTask undisturbed;
  EXPECT_EQ(run(calm, undisturbed), "");
  const auto options = config("run");
  ToyTask task;
  task.factors = {{3, 1e6}, {17, 1e6}};  // The first comes before the window is full.
  const std::string error = run(options, task);
  EXPECT_NE(error.find("times its median"), std::string::npos) << error;
  EXPECT_NE(error.find(" at step 18 "), std::string::npos) << error;
}

TEST_F(AnomalyRun, SkipLeavesTheUpdateOutAndNothingElse) {
  config_.train.clip_grad_norm = 0;
  config_.train.anomaly.answer = AnomalyAnswer::skip;
  const auto options = config("run");
  ToyTask task(at::kFloat);
  task.factors = {{11, kNan}, {12, std::numeric_limits<double>::infinity()}, {30, kNan}};
  EXPECT_EQ(run(options, task), "");
  EXPECT_EQ(last(options).at("optimizer.step").item<double>(), 37);
  EXPECT_TRUE(last(options).at("model.weight").isfinite().all().item<bool>());
  ASSERT_EQ(anomalies(options).size(), 3U);
  for (const auto& anomaly : anomalies(options)) EXPECT_EQ(anomaly["skipped"], true);
  EXPECT_EQ(logged_steps(options).size(), 40U);

  // The first skipped step changes nothing that the thirteenth step sees: up to there it is the undisturbed run.
  const auto calm = config("calm");
  ToyTask undisturbed(at::kFloat);
  run(calm, undisturbed);
  for (size_t i = 0; i < 11; ++i) EXPECT_EQ(losses(options)[i], losses(calm)[i]);
  EXPECT_NE(losses(options)[13], losses(calm)[13]);
}

TEST_F(AnomalyRun, SkipJudgesSpikesOnTheDeviceAndResumesAsIfItHadNeverStopped) {
  config_.train.clip_grad_norm = 0;
  config_.train.log_every = 5;
  config_.train.anomaly = {.answer = AnomalyAnswer::skip, .spike_factor = 200, .window = 7};
  const std::map<int64_t, double> factors{{17, 1e6}, {28, 1e6}};
  const auto whole = config("whole");
  ToyTask undisturbed(at::kFloat);
  undisturbed.factors = factors;
  EXPECT_EQ(run(whole, undisturbed), "");
  EXPECT_EQ(last(whole).at("optimizer.step").item<double>(), 38);
  ASSERT_EQ(anomalies(whole).size(), 2U);
  EXPECT_EQ(anomalies(whole)[0]["step"], 18);
  EXPECT_EQ(anomalies(whole)[1]["step"], 29);

  const auto broken = config("broken");
  ToyTask first(at::kFloat), second(at::kFloat);
  first.factors = second.factors = factors;
  first.interrupt_after = 23;
  run(broken, first);
  second.evaluations = first.evaluations;
  EXPECT_EQ(run(broken, second, "auto"), "");
  EXPECT_EQ(losses(whole), losses(broken));
  EXPECT_TRUE(at::equal(last(whole).at("model.weight"), last(broken).at("model.weight")));
  EXPECT_EQ(anomalies(broken).size(), 2U);
}

TEST_F(AnomalyRun, SkipEndsWhenTooManyStepsInARowAreSkipped) {
  config_.train.anomaly = {.answer = AnomalyAnswer::skip, .max_in_a_row = 3};
  const auto options = config("run");
  ToyTask task(at::kFloat);
  for (const int64_t batch : {2, 3, 5, 6, 12, 13, 14}) task.factors[batch] = kNan;
  const std::string error = run(options, task);
  EXPECT_NE(error.find("3 anomalous steps in a row (train.anomaly.max_in_a_row): "), std::string::npos) << error;
  EXPECT_EQ(losses(options).size(), 15U);
  EXPECT_TRUE(last(options).at("model.weight").isfinite().all().item<bool>());
}

TEST_F(AnomalyRun, RollbackPassesTheBatchOverAndOnlyThat) {
  config_.train.anomaly.answer = AnomalyAnswer::rollback;
  config_.train.checkpoint_every_steps = 4;
  config_.train.log_every = 3;
  const auto options = config("run");
  ToyTask task;
  task.scores.clear();
  task.factors = {{1, kNan}, {21, kNan}};  // The first one before any checkpoint but that of the start.
  EXPECT_EQ(run(options, task), "");
  EXPECT_EQ(last_step(options), 40);
  EXPECT_EQ(last(options).at("optimizer.step").item<double>(), 38);
  ASSERT_GE(anomalies(options).size(), 2U);
  EXPECT_EQ(anomalies(options).front()["step"], 2);
  // Each logged step once, none of them a NaN.
  std::vector<int64_t> expected;
  for (int64_t step = 3; step < 40; step += 3) expected.push_back(step);
  EXPECT_EQ(logged_steps(options), expected);
  for (const auto& line : losses(options)) EXPECT_TRUE(line[1].is_number()) << line;

  const auto checkpoint = train::read_checkpoint(folder_ / "run" / "checkpoints" / "last.safetensors");
  const auto watch = nlohmann::json::parse(checkpoint.metadata.at("train_state")).at("watch");
  EXPECT_EQ(watch["passed_over"], (std::vector<int64_t>{1, 21}));
  EXPECT_EQ(watch["rollbacks"], 2);

  // An interruption after the rollbacks changes nothing.
  const auto broken = config("broken");
  ToyTask first, second;
  for (ToyTask* part : {&first, &second}) {
    part->scores.clear();
    part->factors = task.factors;
  }
  first.interrupt_after = 34;
  run(broken, first);
  EXPECT_LT(last_step(broken), 40);
  EXPECT_EQ(run(broken, second, "auto"), "");
  EXPECT_TRUE(at::equal(last(options).at("model.weight"), last(broken).at("model.weight")));
  EXPECT_EQ(losses(options), losses(broken));
}

TEST_F(AnomalyRun, ABatchThatIsPassedOverLeavesNoTrace) {
  // SGD without momentum, dropout aside: leaving out step 6 by a gradient of zero is the same as passing it over.
  config_.train.optimizer.name = config::OptimizerName::sgd;
  config_.train.optimizer.momentum = 0;
  config_.train.optimizer.weight_decay = 0;
  config_.train.schedule.policy = config::SchedulePolicy::constant;
  config_.train.schedule.min_lr_ratio = 1;
  ToyTask zero;
  zero.factors = {{5, 0.0}};
  const auto plain = config("plain");
  EXPECT_EQ(run(plain, zero), "");
  config_.train.anomaly.answer = AnomalyAnswer::rollback;
  ToyTask bad;
  bad.factors = {{5, kNan}};
  const auto options = config("run");
  EXPECT_EQ(run(options, bad), "");
  EXPECT_TRUE(at::equal(last(plain).at("model.weight"), last(options).at("model.weight")));
}

TEST_F(AnomalyRun, RollbackEndsAfterItsNumber) {
  config_.train.anomaly = {.answer = AnomalyAnswer::rollback, .max_rollbacks = 2};
  const auto options = config("run");
  ToyTask task;
  for (int64_t batch = 12; batch < 20; ++batch) task.factors[batch] = kNan;
  const std::string error = run(options, task);
  EXPECT_NE(error.find("after 2 rollbacks (train.anomaly.max_rollbacks): the loss is nan at step 15 "),
            std::string::npos)
      << error;
  EXPECT_EQ(last_step(options), 10);
  // A resumed run has not forgotten.
  ToyTask again;
  again.factors = task.factors;
  EXPECT_NE(run(options, again, "auto").find("after 2 rollbacks"), std::string::npos);
}

}  // namespace
}  // namespace vrwkv::testing
