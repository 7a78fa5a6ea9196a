#pragma once

#include <torch/types.h>

#include <map>
#include <string>

#include "config/run_config.h"

namespace vrwkv::train {

/// Dynamic loss scaling (Micikevicius et al., arXiv 1710.03740, as torch.amp.GradScaler): small gradients must not
/// vanish in float16. The loss is multiplied by a scale, the gradients are divided by it. The scale grows after
/// `interval` good steps in a row and backs off after a bad one. All state is on the device, where it keeps its
/// addresses.
class LossScale {
 public:
  LossScale(const config::LossScaleOptions& options, at::Device device);

  /// 0-d float32: the factor on the loss.
  const torch::Tensor& scale() const { return scale_; }

  /// After each step: `skipped`, 0-d float32, is 1 for a step that was skipped, else 0.
  void update(const torch::Tensor& skipped);

  /// `scale` (float32) and `good_steps` (int32), both 0-d.
  std::map<std::string, torch::Tensor> state() const;

  /// Takes back what state() gave; throws std::runtime_error when one of the two is missing.
  void load_state(const std::map<std::string, torch::Tensor>& state);

 private:
  config::LossScaleOptions options_;
  torch::Tensor scale_, good_steps_;
};

}  // namespace vrwkv::train
