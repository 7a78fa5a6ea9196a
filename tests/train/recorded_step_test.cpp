#include "vrwkv/recorded_step.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/nn/functional/loss.h>
#include <torch/utils.h>

#include "common/errors.h"
#include "config/run_config.h"
#include "train/adamw.h"
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
std::vector<at::Tensor> train(GraphMode mode, bool with_cp) {
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
  options.backbone.with_cp = with_cp;
  VrwkvClassifier model(options);
  model->to(device);
  model->train();
  config::OptimizerOptions optimizer_options;
  train::AdamW optimizer(train::make_param_groups(*model, optimizer_options), optimizer_options);
  const at::Tensor images = at::empty({8, 3, 32, 32}, at::TensorOptions(device));
  const at::Tensor labels = at::empty({8}, at::TensorOptions(device).dtype(at::kLong));
  train::StepResult result;
  RecordedStep step(
      [&] {
        const auto loss = [&](int64_t) {
          const AutocastGuard autocast(at::kCUDA, at::kBFloat16);
          return torch::nn::functional::cross_entropy(model(images), labels);
        };
        result = train::train_step(loss, 1, optimizer, 5.0);
      },
      device, mode);
  std::vector<at::Tensor> results;
  for (int i = 0; i < 10; ++i) {
    torch::manual_seed(static_cast<uint64_t>(100 + i));
    images.normal_();
    labels.random_(0, 5);
    torch::manual_seed(static_cast<uint64_t>(200 + i));
    optimizer.set_learning_rate(1e-3 * (10 - i));
    step();
    results.push_back(result.loss.clone());
    results.push_back(result.grad_norm.clone());
  }
  EXPECT_EQ(step.recorded(), mode == GraphMode::on);
  for (const at::Tensor& parameter : model->parameters()) results.push_back(parameter.detach().clone());
  return results;
}

TEST_F(RecordedStepCuda, TrainsToTheSameBitsAsThePlainStep) {
  for (const bool with_cp : {false, true}) {
    const std::vector<at::Tensor> plain = train(GraphMode::off, with_cp), recorded = train(GraphMode::on, with_cp);
    ASSERT_EQ(plain.size(), recorded.size());
    for (size_t i = 0; i < plain.size(); ++i) {
      EXPECT_TRUE(at::equal(plain[i], recorded[i])) << "result " << i << ", with_cp " << with_cp;
    }
  }
}

TEST_F(RecordedStepCuda, GoesOnWithoutWhatCannotBeRecorded) {
  const at::Tensor x = at::zeros({3}, at::kCUDA);
  double seen = 0;
  const auto body = [&] {
    x.add_(1);
    seen = x.sum().item<double>();  // waits for the device
  };
  RecordedStep step(body, at::kCUDA, GraphMode::automatic);
  for (int i = 0; i < 6; ++i) step();
  EXPECT_FALSE(step.recorded());
  EXPECT_EQ(seen, 18);
  RecordedStep must(body, at::kCUDA, GraphMode::on);
  EXPECT_THROW(
      {
        for (int i = 0; i < 6; ++i) must();
      },
      std::runtime_error);
}

}  // namespace
}  // namespace vrwkv::testing
