#include "train/ema.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "config/run_config.h"
#include "tests/support/assert_close.h"
#include "tests/train/toy_run.h"
#include "vrwkv/vrwkv_classifier.h"

namespace vrwkv::testing {
namespace {

using config::EmaOptions;

VrwkvClassifier tiny() { return VrwkvClassifier(variant_options("tiny")); }

void fill(torch::nn::Module& model, double value) {
  const torch::NoGradGuard no_grad;
  for (auto& parameter : model.parameters()) parameter.fill_(value);
}

void expect_all(const std::map<std::string, at::Tensor>& averages, double value) {
  for (const auto& [name, average] : averages) {
    EXPECT_TRUE(close(name, at::full_like(average, value), average, 1e-6)) << value;
  }
}

// Every weight of vrwkv_tiny goes 1, 3, 10, -4; the averages are worked out by hand.
TEST(Ema, OfVrwkvTinyByHand) {
  VrwkvClassifier model = tiny();
  const auto averages_after = [&](const EmaOptions& options, const std::vector<double>& expected) {
    fill(*model, 1);
    train::Ema ema(*model, options);
    EXPECT_EQ(ema.state().size(), model->named_parameters().size());
    expect_all(ema.state(), 1);
    const std::vector<double> values{3, 10, -4};
    for (size_t i = 0; i < values.size(); ++i) {
      fill(*model, values[i]);
      ema.update(static_cast<int64_t>(i) + 1);
      expect_all(ema.state(), expected[i]);
    }
  };
  averages_after({.enabled = true, .decay = 0.5}, {2, 6, 1});
  // Decays 1/10, 2/11, 3/12.
  averages_after({.enabled = true, .decay = 0.9, .warmup = true},
                 {2.8, 2.8 * 2 / 11 + 10 * 9 / 11.0, (2.8 * 2 / 11 + 10 * 9 / 11.0) / 4 - 3});
  // Decays 1/10, then at most 0.15.
  averages_after({.enabled = true, .decay = 0.15, .warmup = true}, {2.8, 8.92, 8.92 * 0.15 - 3.4});
  averages_after({.enabled = true, .decay = 0.5, .every = 2}, {1, 5.5, 5.5});
}

TEST(Ema, WarmUpOfTheDecay) {
  const EmaOptions options{.enabled = true, .decay = 0.999, .warmup = true};
  EXPECT_DOUBLE_EQ(train::ema_decay(options, 0), 0.1);
  EXPECT_DOUBLE_EQ(train::ema_decay(options, 90), 0.91);
  EXPECT_DOUBLE_EQ(train::ema_decay(options, 100000), 0.999);
  EXPECT_DOUBLE_EQ(train::ema_decay({.enabled = true, .decay = 0.999}, 0), 0.999);
}

TEST(Ema, IsInTheModelOnlyForAWhile) {
  VrwkvClassifier model = tiny();
  fill(*model, 1);
  train::Ema ema(*model, {.enabled = true, .decay = 0.5});
  fill(*model, 5);
  const void* const address = model->parameters().front().data_ptr();
  {
    const train::Ema::InModel averages(ema);
    for (const auto& parameter : model->parameters()) EXPECT_TRUE(parameter.detach().eq(1).all().item<bool>());
    EXPECT_EQ(model->parameters().front().data_ptr(), address);
  }
  for (const auto& parameter : model->parameters()) EXPECT_TRUE(parameter.detach().eq(5).all().item<bool>());
  expect_all(ema.state(), 1);
}

TEST(Ema, ListsEverythingThatDoesNotFitAndChangesNothing) {
  torch::nn::Linear model(3, 2);
  train::Ema ema(*model, {.enabled = true});
  const at::Tensor before = ema.state().at("bias").clone();
  try {
    ema.load_state({{"bias", at::ones({2})}, {"weight", at::ones({3, 3})}, {"other", at::ones({1})}});
    FAIL() << "accepted another model's averages";
  } catch (const std::runtime_error& error) {
    const std::string text = error.what();
    EXPECT_NE(text.find("ema.weight: expected shape [2, 3], got [3, 3]"), std::string::npos) << text;
    EXPECT_NE(text.find("unexpected ema.other"), std::string::npos) << text;
  }
  EXPECT_TRUE(at::equal(before, ema.state().at("bias")));
  EXPECT_THROW(ema.load_state({}), std::runtime_error);
}

class EmaRun : public ToyRun {
 protected:
  /// Trains a toy whose score is its first weight.
  config::RunConfig train(const char* name) {
    const auto run = config(name);
    ToyTask task;
    task.scores.clear();
    train::Trainer(run, task, std::nullopt).run();
    return run;
  }
};

TEST_F(EmaRun, IsEvaluatedBesideTheWeightsAndSaved) {
  config_.train.ema = {.enabled = true, .decay = 0.9};
  const auto run = train("run");
  const auto tensors = last(run);
  const double raw = tensors.at("model.weight")[0][0].item<double>();
  const double average = tensors.at("ema.weight")[0][0].item<double>();
  EXPECT_NE(raw, average);
  const auto evaluations = metrics(run, "eval");
  ASSERT_EQ(evaluations.size(), 4U);
  EXPECT_EQ(evaluations.back().at("top1").get<double>(), raw);
  EXPECT_EQ(evaluations.back().at("ema_top1").get<double>(), average);
  config_.train.ema.enabled = false;
  const auto without = train("without");
  EXPECT_FALSE(metrics(without, "eval").back().contains("ema_top1"));
  EXPECT_EQ(losses(run), losses(without));  // Averaging changes nothing in the training.
}

TEST_F(EmaRun, BestIsDecidedByTheWeightsAskedFor) {
  for (const auto& [by, metric] : {std::pair{WeightSet::raw, "top1"}, {WeightSet::ema, "ema_top1"}}) {
    config_.train.ema = {.enabled = true, .decay = 0.9, .best_by = by};
    const auto run = train(metric);
    double best = -1e9;
    for (const auto& line : metrics(run, "eval")) best = std::max(best, line.at(metric).get<double>());
    const auto state = train::read_checkpoint(std::filesystem::path(run.run.output_dir) / "checkpoints" /
                                              "best.safetensors").metadata.at("train_state");
    EXPECT_EQ(nlohmann::json::parse(state).at("best_score").get<double>(), best) << metric;
  }
}

// Everything that a run changes is in its checkpoints: average, loss scale, moments.
TEST_F(EmaRun, ResumesWithIdenticalTensors) {
  config_.train.ema = {.enabled = true, .decay = 0.9, .warmup = true, .every = 3};
  config_.run.dtype = config::Dtype::float16;
  config_.train.loss_scale.interval = 4;
  for (const auto name : {config::OptimizerName::adamw, config::OptimizerName::lamb, config::OptimizerName::sgd}) {
    const std::string number = std::to_string(static_cast<int>(name));
    config_.train.optimizer.name = name;
    const auto whole = config(("whole" + number).c_str());
    ToyTask undisturbed(at::kFloat), first(at::kFloat), second(at::kFloat);
    for (ToyTask* task : {&undisturbed, &first, &second}) task->scores.clear();
    train::Trainer(whole, undisturbed, std::nullopt).run();
    const auto broken = config(("broken" + number).c_str());
    first.interrupt_after = 17;
    train::Trainer(broken, first, std::nullopt).run();
    train::Trainer(broken, second, "auto").run();
    EXPECT_EQ(losses(whole), losses(broken));
    const auto expected = last(whole), actual = last(broken);
    ASSERT_EQ(expected.size(), actual.size());
    for (const auto& [tensor, value] : expected) EXPECT_TRUE(at::equal(value, actual.at(tensor))) << tensor;
    EXPECT_TRUE(expected.contains("ema.weight") && expected.contains("loss_scale.scale"));
  }
}

TEST_F(EmaRun, ResumingWithOrWithoutItMustAgreeWithTheRun) {
  const auto plain = train("plain");
  auto with = plain;
  with.train.ema.enabled = true;
  ToyTask task;
  EXPECT_THROW(train::Trainer(with, task, "auto"), std::runtime_error);
  config_.train.ema.enabled = true;
  auto without = train("averaged");
  without.train.ema.enabled = false;
  EXPECT_THROW(train::Trainer(without, task, "auto"), std::runtime_error);
}

}  // namespace
}  // namespace vrwkv::testing
