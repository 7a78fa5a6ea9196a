#include "train/param_groups.h"

#include <torch/nn/modules/normalization.h>

#include <unordered_set>

namespace vrwkv::train {
namespace {

/// Full names of the parameters that layer norms own.
std::unordered_set<std::string> norm_parameter_names(const torch::nn::Module& model) {
  std::unordered_set<std::string> names;
  for (const auto& child : model.named_modules()) {
    if (child.value()->as<torch::nn::LayerNormImpl>() == nullptr) continue;
    for (const auto& parameter : child.value()->named_parameters(/*recurse=*/false)) {
      names.insert(child.key().empty() ? parameter.key() : child.key() + "." + parameter.key());
    }
  }
  return names;
}

bool is_bias(const std::string& name) { return name == "bias" || name.ends_with(".bias"); }

}  // namespace

std::vector<ParamGroup> make_param_groups(const torch::nn::Module& model, const config::OptimizerOptions& options) {
  const auto norms = norm_parameter_names(model);
  ParamGroup decayed{{}, options.weight_decay, 1.0};
  ParamGroup plain{{}, 0.0, 1.0};
  for (const auto& parameter : model.named_parameters()) {
    if (!parameter.value().requires_grad()) continue;
    const bool exempt = norms.contains(parameter.key()) || is_bias(parameter.key());
    (exempt ? plain : decayed).parameters.push_back({parameter.key(), parameter.value()});
  }
  std::vector<ParamGroup> groups;
  for (auto& group : {decayed, plain}) {
    if (!group.parameters.empty()) groups.push_back(group);
  }
  return groups;
}

}  // namespace vrwkv::train
