#include "tools/module_costs.h"

#include <torch/nn/modules/activation.h>
#include <torch/nn/modules/conv.h>

#include <functional>
#include <numeric>
#include <stdexcept>

#include "ops/bi_wkv6_head.h"

namespace vrwkv::tools {
namespace {

int64_t product(const std::vector<int64_t>& sizes) {
  return std::accumulate(sizes.begin(), sizes.end(), int64_t{1}, std::multiplies<>());
}

/// The low-rank mixes and decays are products of their own parameters with each token.
int64_t flops_per_token(const SpatialMix6Impl& mix) {
  const int64_t ranks =
      mix.time_maa_w1.numel() + mix.time_maa_w2.numel() + mix.time_decay_w1.numel() + mix.time_decay_w2.numel();
  return ranks + mix.time_decay.numel() * bi_wkv6_flops(ops::kBiWkv6HeadSize);
}

/// Without the modules inside.
int64_t own_flops_per_token(const torch::nn::Module& module) {
  if (const auto* linear = module.as<torch::nn::LinearImpl>()) return linear->weight.numel();
  if (const auto* conv = module.as<torch::nn::Conv2dImpl>()) return conv->weight.numel();
  if (const auto* norm = module.as<torch::nn::LayerNormImpl>()) {
    return kNormFlops * product(norm->options.normalized_shape());
  }
  if (const auto* norm = module.as<torch::nn::GroupNormImpl>()) return kNormFlops * norm->options.num_channels();
  if (const auto* mix = module.as<SpatialMixImpl>()) return kBiWkvFlops * mix->spatial_decay.numel();
  if (const auto* mix = module.as<SpatialMix6Impl>()) return flops_per_token(*mix);
  // Elementwise operations, or none.
  const bool free = module.as<ChannelMixImpl>() || module.as<BlockImpl>() || module.as<VrwkvImpl>() ||
                    module.as<torch::nn::TanhImpl>();
  if (!free && !module.parameters(/*recurse=*/false).empty()) {
    throw std::logic_error("model_costs: no rule for the operations of " + module.name());
  }
  return 0;
}

/// torch::nn::LinearImpl -> Linear
std::string kind_of(const torch::nn::Module& module) {
  std::string name = module.name();
  name = name.substr(name.rfind(':') + 1);
  const std::string suffix = "Impl";
  return name.ends_with(suffix) ? name.substr(0, name.size() - suffix.size()) : name;
}

void add_part(ModuleCosts& whole, ModuleCosts part) {
  whole.parameters += part.parameters;
  whole.flops += part.flops;
  whole.parts.push_back(std::move(part));
}

ModuleCosts costs_of(const torch::nn::Module& module, const std::string& name, int64_t tokens) {
  ModuleCosts costs{.name = name, .kind = kind_of(module)};
  for (const at::Tensor& parameter : module.parameters(/*recurse=*/false)) costs.parameters += parameter.numel();
  costs.flops = tokens * own_flops_per_token(module);
  for (const auto& child : module.named_children()) {
    add_part(costs, costs_of(*child.value(), child.key(), tokens));
  }
  return costs;
}

}  // namespace

ModuleCosts model_costs(const VrwkvClassifier& model, Grid grid) {
  ModuleCosts whole{.name = "", .kind = kind_of(*model)};
  add_part(whole, costs_of(*model->backbone, "backbone", grid.tokens()));
  add_part(whole, costs_of(*model->head, "head", 1));
  return whole;
}

ModuleCosts model_costs(const MaskedAutoencoder& model, Grid grid) {
  ModuleCosts whole{.name = "", .kind = kind_of(*model)};
  for (const at::Tensor& parameter : model->parameters(/*recurse=*/false)) whole.parameters += parameter.numel();
  const int64_t visible = visible_tokens(grid.tokens(), model->options().mae.mask_ratio);
  for (const auto& child : model->named_children()) {
    const std::string& name = child.key();
    const bool of_encoder = name == "patch_embed" || name == "blocks" || name == "ln1" || name == "decoder_embed";
    add_part(whole, costs_of(*child.value(), name, of_encoder ? visible : grid.tokens()));
  }
  return whole;
}

}  // namespace vrwkv::tools
