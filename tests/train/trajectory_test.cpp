#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/nn/functional/loss.h>

#include <nlohmann/json.hpp>

#include "tests/support/assert_close.h"
#include "tests/support/devices.h"
#include "tests/support/golden.h"
#include "train/adamw.h"
#include "train/param_groups.h"
#include "train/schedule.h"
#include "train/train_step.h"
#include "vrwkv/checkpoint/state_dict.h"
#include "vrwkv/vrwkv_classifier.h"

namespace vrwkv::testing {
namespace {

struct Trajectory {
  Safetensors golden = read_golden("trajectory.safetensors");
  nlohmann::json config = nlohmann::json::parse(golden.metadata.at("config"));

  VrwkvClassifier model(at::Device device) const {
    ClassifierOptions options;
    options.num_classes = config.at("num_classes");
    options.backbone.img_size = config.at("img_size");
    options.backbone.patch_size = config.at("patch_size");
    options.backbone.embed_dims = config.at("embed_dims");
    options.backbone.depth = config.at("depth");
    options.backbone.post_norm = config.value("post_norm", false);
    if (config.contains("init_values")) options.backbone.init_values = config.at("init_values").get<double>();
    VrwkvClassifier classifier(options);
    std::map<std::string, at::Tensor> state;
    for (const auto& [name, tensor] : golden.tensors) {
      if (name.starts_with("init.")) state.emplace(name.substr(5), tensor);
    }
    load_state_dict(*classifier, state);
    classifier->to(device, at::kDouble);
    return classifier;
  }
};

class TrajectoryTest : public ::testing::TestWithParam<std::tuple<at::Device, int64_t>> {};

INSTANTIATE_TEST_SUITE_P(DevicesAndParts, TrajectoryTest,
                         ::testing::Combine(::testing::ValuesIn(devices()), ::testing::Values(1, 2, 4)),
                         [](const auto& test) {
                           return std::string(std::get<0>(test.param).is_cuda() ? "cuda" : "cpu") + "_accumulate_" +
                                  std::to_string(std::get<1>(test.param));
                         });

/// 24 steps of training in float64: every loss, gradient norm, learning rate and the final weights; also with the batch
/// split in parts, which must not change anything.
TEST_P(TrajectoryTest, FollowsTheGoldenRun) {
  const auto [device, parts] = GetParam();
  const Trajectory run;
  const auto& config = run.config;
  VrwkvClassifier model = run.model(device);

  config::OptimizerOptions optimizer_options;
  optimizer_options.lr = config.at("base_lr");
  optimizer_options.weight_decay = config.at("weight_decay");
  optimizer_options.betas = {config.at("betas")[0], config.at("betas")[1]};
  optimizer_options.eps = config.at("eps");
  config::ScheduleOptions schedule;
  schedule.min_lr_ratio = config.at("min_lr_ratio");
  schedule.warmup_ratio = config.at("warmup_ratio");
  train::AdamW optimizer(train::make_param_groups(*model, optimizer_options), optimizer_options);

  namespace F = torch::nn::functional;
  const auto smoothing = F::CrossEntropyFuncOptions().label_smoothing(config.at("label_smoothing").get<double>());
  const int64_t steps = config.at("steps");
  const at::Tensor inputs = run.golden.tensors.at("inputs").to(device, at::kDouble);
  const at::Tensor targets = run.golden.tensors.at("targets").to(device);
  ASSERT_EQ(inputs.size(1) % parts, 0);
  for (int64_t step = 0; step < steps; ++step) {
    SCOPED_TRACE(step);
    const double lr = train::learning_rate(schedule, optimizer_options.lr, step, steps, config.at("warmup_steps"));
    const int64_t share = inputs.size(1) / parts;
    const auto loss = [&, step = step](int64_t part) {
      return F::cross_entropy(model(inputs[step].narrow(0, part * share, share)),
                              targets[step].narrow(0, part * share, share), smoothing);
    };
    optimizer.set_learning_rate(lr);
    const train::StepResult result = train::train_step(loss, parts, optimizer, config.at("clip"));
    const auto golden = [&](const char* name) { return run.golden.tensors.at(name)[step].item<double>(); };
    EXPECT_NEAR(lr, golden("lr"), 1e-8 * golden("lr"));
    EXPECT_NEAR(result.loss.item<double>(), golden("loss"), 1e-8 * golden("loss"));
    EXPECT_NEAR(result.grad_norm.item<double>(), golden("grad_norm"), 1e-8 * golden("grad_norm"));
  }
  for (const auto& parameter : model->named_parameters()) {
    // The file's final weights are float64 values rounded to float32.
    EXPECT_TRUE(close(parameter.key(), run.golden.tensors.at("final." + parameter.key()),
                      parameter.value().to(at::kFloat), 1e-8));
  }
}

}  // namespace
}  // namespace vrwkv::testing
