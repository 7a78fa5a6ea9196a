#pragma once

#include <torch/nn/module.h>

#include <string>
#include <vector>

#include "config/run_config.h"

namespace vrwkv::train {

struct NamedParameter {
  std::string name;
  torch::Tensor value;
};

/// Parameters that share optimizer settings.
struct ParamGroup {
  std::vector<NamedParameter> parameters;
  double weight_decay;
  double lr_scale;  ///< Factor on the scheduled learning rate.
};

/// Splits the parameters that require grad into groups by the rule of `options`. Under `norm_bias` the parameters of
/// layer norms and all biases are not decayed; decay, first, mix, layer scale and position embedding are, as published.
std::vector<ParamGroup> make_param_groups(const torch::nn::Module& model, const config::OptimizerOptions& options);

}  // namespace vrwkv::train
