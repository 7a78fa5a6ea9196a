#include "vrwkv/recorded_step.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/nn/functional/loss.h>
#include <torch/utils.h>

#include <limits>

#include "common/errors.h"
#include "config/run_config.h"
#include "train/loss_scale.h"
#include "train/make_optimizer.h"
#include "train/param_groups.h"
#include "train/train_step.h"
#include "vrwkv/autocast.h"
#include "vrwkv/vrwkv_classifier.h"

namespace vrwkv::testing {
namespace {

TEST(RecordedStep, IsThePlainStepWithoutAGpu) {
  int calls = 0;
  RecordedStep step([&] { ++calls; }, at::kCPU, GraphMode::automatic);
  for (int i = 0; i < 6; ++i) step();
  EXPECT_EQ(calls, 6);
  EXPECT_FALSE(step.recorded());
  EXPECT_THROW(RecordedStep([] {}, at::kCPU, GraphMode::on), UsageError);
}

class RecordedStepCuda : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!torch::cuda::is_available()) GTEST_SKIP() << "no CUDA device";
  }
};

/// Losses, gradient norms and final parameters of a run with all that a recording could get wrong: drop path and
/// dropout (new random numbers in every step, as the seed says), a learning rate that changes, new inputs, weights cast
/// anew.
struct Recipe {
  config::OptimizerName optimizer = config::OptimizerName::adamw;
  at::ScalarType dtype = at::kBFloat16;  ///< float16: with a loss scale that overflows at first and grows often.
  bool with_cp = false;
};

std::vector<at::Tensor> train(GraphMode mode, const Recipe& recipe) {
  const at::Device device(at::kCUDA, 0);
  torch::manual_seed(7);
  ClassifierOptions options;
  options.num_classes = 5;
  options.backbone.img_size = 32;
  options.backbone.patch_size = 4;
  options.backbone.embed_dims = 64;
  options.backbone.depth = 3;
  options.backbone.drop_rate = 0.1;
  options.backbone.drop_path_rate = 0.3;
  options.backbone.with_cp = recipe.with_cp;
  VrwkvClassifier model(options);
  model->to(device);
  model->train();
  config::OptimizerOptions optimizer_options;
  optimizer_options.name = recipe.optimizer;
  const auto optimizer = train::make_optimizer(train::make_param_groups(*model, optimizer_options), optimizer_options);
  train::LossScale scale({.initial = 0x1p40, .growth = 2, .backoff = 0.0625, .interval = 2}, device);
  const bool is_half = recipe.dtype == at::kHalf;
  const at::Tensor skip_above =
      is_half ? at::full({}, std::numeric_limits<float>::max(), at::TensorOptions(device)) : at::Tensor();
  const at::Tensor images = at::empty({8, 3, 32, 32}, at::TensorOptions(device));
  const at::Tensor labels = at::empty({8}, at::TensorOptions(device).dtype(at::kLong));
  train::StepResult result;
  RecordedStep step(
      [&] {
        const auto loss = [&](int64_t) {
          const AutocastGuard autocast(at::kCUDA, recipe.dtype);
          return torch::nn::functional::cross_entropy(model(images), labels);
        };
        result = train::train_step(loss, 1, *optimizer, 5.0, skip_above, is_half ? &scale : nullptr);
      },
      device, mode);
  std::vector<at::Tensor> results;
  for (int i = 0; i < 10; ++i) {
    torch::manual_seed(static_cast<uint64_t>(100 + i));
    images.normal_();
    labels.random_(0, 5);
    torch::manual_seed(static_cast<uint64_t>(200 + i));
    optimizer->set_learning_rate(1e-3 * (10 - i));
    step();
    results.push_back(result.loss.clone());
    results.push_back(result.grad_norm.nan_to_num());
    results.push_back(scale.scale().clone());
  }
  EXPECT_EQ(step.recorded(), mode == GraphMode::on);
  for (const at::Tensor& parameter : model->parameters()) results.push_back(parameter.detach().clone());
  return results;
}

TEST_F(RecordedStepCuda, TrainsToTheSameBitsAsThePlainStep) {
  using config::OptimizerName;
  const std::vector<Recipe> recipes{{},
                                    {.with_cp = true},
                                    {.optimizer = OptimizerName::lamb},
                                    {.optimizer = OptimizerName::sgd},
                                    {.dtype = at::kHalf},
                                    {.optimizer = OptimizerName::lamb, .dtype = at::kHalf},
                                    {.optimizer = OptimizerName::sgd, .dtype = at::kHalf}};
  for (size_t recipe = 0; recipe < recipes.size(); ++recipe) {
    const auto plain = train(GraphMode::off, recipes[recipe]), recorded = train(GraphMode::on, recipes[recipe]);
    ASSERT_EQ(plain.size(), recorded.size());
    for (size_t i = 0; i < plain.size(); ++i) {
      EXPECT_TRUE(at::equal(plain[i], recorded[i])) << "result " << i << ", recipe " << recipe;
    }
    // A recorded half-precision run has skipped steps at first and taken others later.
    if (recipes[recipe].dtype == at::kHalf) {
      EXPECT_LT(recorded[3 * 9 + 2].item<double>(), 0x1p40);
    }
  }
}

TEST_F(RecordedStepCuda, RecordsAnewForAnotherShape) {
  const at::TensorOptions on_gpu(at::kCUDA);
  at::Tensor x = at::ones({3}, on_gpu), sum;
  RecordedStep step([&] { sum = x.sum(); }, at::kCUDA, GraphMode::on);
  for (const int64_t size : {3, 70, 5}) {
    x = at::ones({size}, on_gpu);
    step.record_anew();
    EXPECT_FALSE(step.recorded());
    for (int i = 1; i < 7; ++i) {
      x.fill_(i);
      step();
      EXPECT_EQ(sum.item<double>(), static_cast<double>(i * size));
    }
    EXPECT_TRUE(step.recorded());
  }
}

/// Steps that cannot be recorded: one waits for the device, one throws while it is being recorded.
class UnrecordableStep : public RecordedStepCuda, public ::testing::WithParamInterface<bool> {
 protected:
  void operator()() {
    sum.add_(at::rand({64}, at::TensorOptions(at::kCUDA)));
    ++calls;
    if (GetParam()) {
      last = sum.max().item<double>();
    } else if (calls == 4) {
      throw std::runtime_error("not now");
    }
  }

  at::Tensor sum;
  double last = 0;
  int calls = 0;
};

TEST_P(UnrecordableStep, GoesOnAsIfNothingHadBeenTried) {
  const auto run = [this](GraphMode mode) {
    sum = at::zeros({64}, at::TensorOptions(at::kCUDA));
    calls = mode == GraphMode::off ? 10 : 0;
    RecordedStep step([this] { (*this)(); }, at::kCUDA, mode);
    std::vector<at::Tensor> sums;
    for (uint64_t i = 0; i < 8; ++i) {
      torch::manual_seed(i);
      step();
      sums.push_back(sum.clone());
    }
    EXPECT_FALSE(step.recorded());
    return sums;
  };
  const std::vector<at::Tensor> plain = run(GraphMode::off), fallen_back = run(GraphMode::automatic);
  for (size_t i = 0; i < plain.size(); ++i) EXPECT_TRUE(at::equal(plain[i], fallen_back[i])) << "call " << i;
  // The allocators are out of recording mode too, and another step can be recorded.
  EXPECT_EQ(at::ones({1 << 22}, at::TensorOptions(at::kCUDA)).sum().item<double>(), 1 << 22);
  RecordedStep another([this] { sum.add_(1); }, at::kCUDA, GraphMode::on);
  for (int i = 0; i < 6; ++i) another();
  EXPECT_TRUE(another.recorded());
}

TEST_P(UnrecordableStep, IsAnErrorWhereARecordingWasDemanded) {
  sum = at::zeros({64}, at::TensorOptions(at::kCUDA));
  RecordedStep step([this] { (*this)(); }, at::kCUDA, GraphMode::on);
  for (int i = 0; i < 3; ++i) step();
  EXPECT_THROW(step(), std::runtime_error);
}

INSTANTIATE_TEST_SUITE_P(cuda, UnrecordableStep, ::testing::Bool());

}  // namespace
}  // namespace vrwkv::testing
