#include "train/param_groups.h"

#include <torch/nn/modules/normalization.h>

#include <cmath>
#include <cstdint>
#include <map>
#include <optional>
#include <stdexcept>
#include <unordered_set>
#include <utility>

#include "common/errors.h"
#include "vrwkv/vrwkv.h"

namespace vrwkv::train {
namespace {

/// Full names of the parameters that layer norms and group norms own.
std::unordered_set<std::string> norm_parameter_names(const torch::nn::Module& model) {
  std::unordered_set<std::string> names;
  for (const auto& child : model.named_modules()) {
    const bool is_norm = child.value()->as<torch::nn::LayerNormImpl>() != nullptr ||
                         child.value()->as<torch::nn::GroupNormImpl>() != nullptr;
    if (!is_norm) continue;
    for (const auto& parameter : child.value()->named_parameters(/*recurse=*/false)) {
      names.insert(child.key().empty() ? parameter.key() : child.key() + "." + parameter.key());
    }
  }
  return names;
}

bool is_bias(const std::string& name) { return name == "bias" || name.ends_with(".bias"); }

bool is_exempt(const NamedParameter& parameter, const std::unordered_set<std::string>& norms, config::DecayRule rule) {
  const std::string& name = parameter.name;
  switch (rule) {
    case config::DecayRule::norm_bias:
      return norms.contains(name) || is_bias(name);
    case config::DecayRule::layer_wise:
      return parameter.value.dim() == 1 && !name.ends_with("spatial_decay") && !name.ends_with("spatial_first");
  }
  throw std::logic_error("is_exempt: unknown rule");
}

/// The backbone's view of a model's parameters.
class LayerIds {
 public:
  explicit LayerIds(const torch::nn::Module& model) {
    for (const auto& child : model.named_modules()) {
      if (const auto* backbone = child.value()->as<VrwkvImpl>()) {
        backbone_ = backbone;
        prefix_ = child.key().empty() ? "" : child.key() + ".";
        return;
      }
    }
    throw UsageError("train.optimizer.layer_decay is set, but the model has no backbone with layers; set it to 1");
  }

  /// Layers between a parameter's and the head: L + 1 - id.
  int64_t layers_above(const std::string& name) const {
    const bool inside = name.starts_with(prefix_);
    const int64_t last = backbone_->num_layers() + 1;
    return inside ? last - backbone_->layer_id(name.substr(prefix_.size())) : 0;
  }

 private:
  const VrwkvImpl* backbone_ = nullptr;
  std::string prefix_;
};

}  // namespace

std::vector<ParamGroup> make_param_groups(const torch::nn::Module& model, const config::OptimizerOptions& options) {
  const auto norms = norm_parameter_names(model);
  std::optional<LayerIds> layers;
  if (options.layer_decay != 1) layers.emplace(model);
  std::map<std::pair<int64_t, bool>, ParamGroup> groups;  // By the layers above, then decayed before exempt.
  for (const auto& item : model.named_parameters()) {
    if (!item.value().requires_grad()) continue;
    const NamedParameter parameter{item.key(), item.value()};
    const bool exempt = is_exempt(parameter, norms, options.decay_rule);
    const int64_t above = layers ? layers->layers_above(parameter.name) : 0;
    const double scale = std::pow(options.layer_decay, static_cast<double>(above));
    const ParamGroup empty{{}, exempt ? 0.0 : options.weight_decay, scale};
    groups.try_emplace({above, exempt}, empty).first->second.parameters.push_back(parameter);
  }
  std::vector<ParamGroup> all;
  for (auto& [key, group] : groups) all.push_back(std::move(group));
  return all;
}

}  // namespace vrwkv::train
