#include "vrwkv/init.h"

#include <torch/nn/init.h>

#include <cmath>

#include "vrwkv/vrwkv.h"

namespace vrwkv {
namespace {

constexpr double kLinearStd = 0.02;

/// Fills `parameter` (C values, any shape) with f(channel).
template <typename F>
void fill_channels(torch::Tensor& parameter, const F& f) {
  const int64_t channels = parameter.numel();
  const torch::Tensor values = torch::empty({channels}, torch::kDouble);
  auto access = values.accessor<double, 1>();
  for (int64_t h = 0; h < channels; ++h) access[h] = f(h);
  parameter.copy_(values.view_as(parameter));
}

void fill_fancy(BlockImpl& block, int64_t layer, int64_t depth) {
  auto& att = *block.att;
  auto& ffn = *block.ffn;
  const auto channels = static_cast<double>(att.spatial_decay.numel());
  const double l = static_cast<double>(layer), layers = static_cast<double>(depth);
  const double r01 = depth > 1 ? l / (layers - 1.0) : 0.0;  // 0 in the first layer, 1 in the last
  const double r10 = 1.0 - l / layers;                      // 1 in the first layer, towards 0
  fill_channels(att.spatial_decay, [&](int64_t h) {
    return -5.0 + 8.0 * std::pow(static_cast<double>(h) / (channels - 1.0), 0.7 + 1.3 * r01);
  });
  fill_channels(att.spatial_first,
                [](int64_t h) { return std::log(0.3) + 0.5 * static_cast<double>((h + 1) % 3 - 1); });
  const auto ramp = [&](int64_t h, double power) { return std::pow(static_cast<double>(h) / channels, power); };
  fill_channels(att.spatial_mix_k, [&](int64_t h) { return ramp(h, r10); });
  fill_channels(att.spatial_mix_v, [&](int64_t h) { return ramp(h, r10) + 0.3 * r01; });
  fill_channels(att.spatial_mix_r, [&](int64_t h) { return ramp(h, 0.5 * r10); });
  fill_channels(ffn.spatial_mix_k, [&](int64_t h) { return ramp(h, r10); });
  fill_channels(ffn.spatial_mix_r, [&](int64_t h) { return ramp(h, r10); });
}

void fill_constant(BlockImpl& block, double decay_and_first, double mix) {
  for (auto* parameter : {&block.att->spatial_decay, &block.att->spatial_first}) parameter->fill_(decay_and_first);
  for (auto* parameter : {&block.att->spatial_mix_k, &block.att->spatial_mix_v, &block.att->spatial_mix_r,
                          &block.ffn->spatial_mix_k, &block.ffn->spatial_mix_r}) {
    parameter->fill_(mix);
  }
}

void fill_zero_orthogonal(BlockImpl& block) {
  for (auto* linear :
       {&block.att->key, &block.att->receptance, &block.att->output, &block.ffn->value, &block.ffn->receptance}) {
    (*linear)->weight.zero_();
  }
  torch::nn::init::orthogonal_(block.att->value->weight);
  torch::nn::init::orthogonal_(block.ffn->key->weight);
}

}  // namespace

void initialize_linears(torch::nn::Module& module) {
  for (const auto& child : module.modules(/*include_self=*/false)) {
    auto* linear = child->as<torch::nn::LinearImpl>();
    if (linear == nullptr) continue;
    // The published bounds of the truncation, +-2, lie 100 standard deviations out.
    torch::nn::init::normal_(linear->weight, 0.0, kLinearStd);
    if (linear->bias.defined()) torch::nn::init::zeros_(linear->bias);
  }
}

void initialize(VrwkvImpl& backbone) {
  const torch::NoGradGuard no_grad;
  const VrwkvOptions& options = backbone.options();
  initialize_linears(backbone);
  for (int64_t layer = 0; layer < options.depth; ++layer) {
    auto& block = *backbone.layers[static_cast<size_t>(layer)]->as<BlockImpl>();
    switch (options.init_mode) {
      case InitMode::fancy:
        fill_fancy(block, layer, options.depth);
        break;
      case InitMode::local:
        fill_constant(block, 1.0, 1.0);
        break;
      case InitMode::global:
        fill_constant(block, 0.0, 0.5);
        break;
    }
    if (options.linear_init == LinearInit::zero_orthogonal) fill_zero_orthogonal(block);
  }
}

}  // namespace vrwkv
