#pragma once

#include <torch/nn/module.h>

#include <string>
#include <vector>

#include "config/run_config.h"

namespace vrwkv::train {

struct NamedParameter {
  std::string name;
  torch::Tensor value;
  bool updated_here = true;  ///< False where another process updates it (OptimizerShards).
};

/// Parameters that share optimizer settings.
struct ParamGroup {
  std::vector<NamedParameter> parameters;
  double weight_decay;
  double lr_scale = 1;  ///< Factor on the scheduled learning rate.
};

/// Splits the parameters that require grad into groups by the rules of `options`. Under `norm_bias` the parameters of
/// layer norms and all biases are not decayed; decay, first, mix, layer scale and position embedding are, as published.
/// Under `layer_wise` one-dimensional parameters are not decayed, except spatial_decay and spatial_first.
///
/// With a layer_decay below 1, lr_scale = layer_decay^(L + 1 - id), where L and id are the layers and the layer_id of
/// the backbone in `model`, and id = L + 1 for what lies outside of it, the head. (The public code's rule, which goes
/// back to BEiT, arXiv 2106.08254.) Throws UsageError for a model without a backbone then.
std::vector<ParamGroup> make_param_groups(const torch::nn::Module& model, const config::OptimizerOptions& options);

}  // namespace vrwkv::train
