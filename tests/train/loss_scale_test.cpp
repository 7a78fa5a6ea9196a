#include "train/loss_scale.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "tests/support/assert_close.h"
#include "tests/train/toy_run.h"
#include "train/make_optimizer.h"
#include "train/train_step.h"

namespace vrwkv::testing {
namespace {

using train::LossScale;

double value(const LossScale& scale) { return scale.scale().item<double>(); }

TEST(LossScale, GrowsAfterGoodStepsAndBacksOffAfterABadOne) {
  LossScale scale({.initial = 64, .growth = 4, .backoff = 0.125, .interval = 3}, at::kCPU);
  const at::Tensor good = at::zeros({}), bad = at::ones({});
  std::vector<double> seen;
  for (const at::Tensor& step : {good, good, good, good, bad, good, good, bad, good, good, good}) {
    scale.update(step);
    seen.push_back(value(scale));
  }
  EXPECT_EQ(seen, (std::vector<double>{64, 64, 256, 256, 32, 32, 32, 4, 4, 4, 16}));
}

TEST(LossScale, ContinuesFromItsSavedState) {
  const config::LossScaleOptions options{.initial = 8, .growth = 2, .backoff = 0.5, .interval = 3};
  LossScale first(options, at::kCPU), second(options, at::kCPU);
  for (int i = 0; i < 5; ++i) first.update(at::zeros({}));
  second.load_state(first.state());
  for (int i = 0; i < 2; ++i) {
    first.update(at::zeros({}));
    second.update(at::zeros({}));
    EXPECT_EQ(value(first), value(second));
  }
  EXPECT_EQ(value(second), 32);
  EXPECT_THROW(second.load_state({{"scale", at::ones({})}}), std::runtime_error);
}

// A power of two changes no gradient: the step is that of the loss as it is.
TEST(LossScale, ScaledStepEqualsThePlainOne) {
  std::vector<at::Tensor> weights;
  std::vector<double> norms, losses;
  for (const bool scaled : {false, true}) {
    at::manual_seed(21);
    at::Tensor p = at::randn({6}).requires_grad_();
    const auto optimizer = train::make_optimizer({{{{"p", p}}, 0.1, 1.0}}, {});
    LossScale scale({.initial = 1024}, at::kCPU);
    const at::Tensor limit = at::full({}, std::numeric_limits<float>::max());
    for (int step = 0; step < 4; ++step) {
      const auto loss = [&](int64_t part) { return (p * p).sum() * static_cast<double>(part + 1); };
      const auto result = scaled ? train::train_step(loss, 2, *optimizer, 0.5, limit, &scale)
                                 : train::train_step(loss, 2, *optimizer, 0.5);
      norms.push_back(result.grad_norm.item<double>());
      losses.push_back(result.loss.item<double>());
    }
    weights.push_back(p.detach());
  }
  EXPECT_TRUE(at::equal(weights[0], weights[1]));
  EXPECT_EQ(std::vector<double>(norms.begin(), norms.begin() + 4), std::vector<double>(norms.begin() + 4, norms.end()));
  EXPECT_EQ(losses[0], losses[4]);
}

TEST(LossScale, AnOverflowSkipsTheStepUntilTheScaleFits) {
  at::Tensor p = at::full({1}, 1.0F).requires_grad_();
  const auto optimizer = train::make_optimizer({{{{"p", p}}, 0.0, 1.0}}, {});
  LossScale scale({.initial = 0x1p127, .growth = 2, .backoff = 0.5, .interval = 100}, at::kCPU);
  const at::Tensor limit = at::full({}, std::numeric_limits<float>::max());
  for (const double skipped : {1.0, 1.0, 0.0}) {
    const float before = p.item<float>();
    const auto result = train::train_step([&](int64_t) { return p.sum() * 4; }, 1, *optimizer, 0, limit, &scale);
    EXPECT_EQ(result.skipped.item<double>(), skipped);
    EXPECT_EQ(p.item<float>() == before, skipped == 1.0);
  }
  EXPECT_EQ(value(scale), 0x1p125);
  EXPECT_THROW(train::train_step([&](int64_t) { return p.sum(); }, 1, *optimizer, 0, {}, &scale), std::logic_error);
}

using Float16Run = ToyRun;

TEST_F(Float16Run, TrainerScalesTheLossAsConfigured) {
  config_.run.dtype = config::Dtype::float16;
  config_.train.loss_scale = {.initial = 16, .growth = 2, .backoff = 0.5, .interval = 13};
  const auto run = config("run");
  ToyTask task(at::kFloat);
  train::Trainer(run, task, std::nullopt).run();
  EXPECT_EQ(last(run).at("loss_scale.scale").item<double>(), 16 * 8);  // 40 steps hold three times 13.
  EXPECT_EQ(last(run).at("loss_scale.good_steps").item<int64_t>(), 1);
  config_.run.dtype = config::Dtype::float32;
  const auto plain = config("plain");
  ToyTask same(at::kFloat);
  train::Trainer(plain, same, std::nullopt).run();
  EXPECT_FALSE(last(plain).contains("loss_scale.scale"));
  EXPECT_EQ(losses(run), losses(plain));  // The toy computes in float32 either way; the scale leaves no trace.
}

TEST_F(Float16Run, SkipsABadStepAndGoesOn) {
  config_.run.dtype = config::Dtype::float16;
  config_.train.loss_scale.initial = 0x1p127;  // Overflows until it is about 2^126.
  const auto run = config("run");
  ToyTask task(at::kFloat);
  train::Trainer(run, task, std::nullopt).run();
  const double scale = last(run).at("loss_scale.scale").item<double>();
  EXPECT_LT(scale, 0x1p127);
  EXPECT_GT(scale, 0x1p110);
  EXPECT_LT(last(run).at("optimizer.step").item<double>(), 40);
  EXPECT_TRUE(last(run).at("model.weight").isfinite().all().item<bool>());
}

}  // namespace
}  // namespace vrwkv::testing
