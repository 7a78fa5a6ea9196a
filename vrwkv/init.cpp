#include "vrwkv/init.h"

#include <torch/nn/init.h>

#include <cmath>

#include "vrwkv/layers/block.h"

namespace vrwkv {
namespace {

constexpr double kLinearStd = 0.02;
constexpr double kLowRankReach = 1e-4;  // of the factors that make VRWKV6 depend on its tokens

/// Fills `parameter` (C values, any shape) with f(channel).
template <typename F>
void fill_channels(torch::Tensor& parameter, const F& f) {
  const int64_t channels = parameter.numel();
  const torch::Tensor values = torch::empty({channels}, torch::kDouble);
  auto access = values.accessor<double, 1>();
  for (int64_t h = 0; h < channels; ++h) access[h] = f(h);
  parameter.copy_(values.view_as(parameter));
}

/// What the published starts of a block depend on.
struct Place {
  double r01;  ///< 0 in the first layer, 1 in the last.
  double r10;  ///< 1 in the first layer, towards 0.
  double channels;

  Place(int64_t layer, int64_t depth, int64_t embed_dims)
      : r01(depth > 1 ? static_cast<double>(layer) / static_cast<double>(depth - 1) : 0.0),
        r10(1.0 - static_cast<double>(layer) / static_cast<double>(depth)),
        channels(static_cast<double>(embed_dims)) {}

  /// (h / C)^power
  double ramp(int64_t h, double power) const { return std::pow(static_cast<double>(h) / channels, power); }
  /// h / (C - 1)
  double share(int64_t h) const { return static_cast<double>(h) / (channels - 1.0); }
  /// A pattern of -1, 0, 1 that tells neighbouring channels apart.
  static double zigzag(int64_t h) { return static_cast<double>((h + 1) % 3 - 1); }
};

void fill_attention(SpatialMixImpl& att, const Place& place) {
  fill_channels(att.spatial_decay,
                [&](int64_t h) { return -5.0 + 8.0 * std::pow(place.share(h), 0.7 + 1.3 * place.r01); });
  fill_channels(att.spatial_first, [](int64_t h) { return std::log(0.3) + 0.5 * Place::zigzag(h); });
  fill_channels(att.spatial_mix_k, [&](int64_t h) { return place.ramp(h, place.r10); });
  fill_channels(att.spatial_mix_v, [&](int64_t h) { return place.ramp(h, place.r10) + 0.3 * place.r01; });
  fill_channels(att.spatial_mix_r, [&](int64_t h) { return place.ramp(h, 0.5 * place.r10); });
}

void fill_attention(SpatialMix6Impl& att, const Place& place) {
  for (auto* mix : {&att.time_maa_x, &att.time_maa_w, &att.time_maa_k}) {
    fill_channels(*mix, [&](int64_t h) { return 1.0 - place.ramp(h, place.r10); });
  }
  fill_channels(att.time_maa_v, [&](int64_t h) { return 1.0 - (place.ramp(h, place.r10) + 0.3 * place.r01); });
  for (auto* mix : {&att.time_maa_r, &att.time_maa_g}) {
    fill_channels(*mix, [&](int64_t h) { return 1.0 - place.ramp(h, 0.5 * place.r10); });
  }
  fill_channels(att.time_decay,
                [&](int64_t h) { return -6.0 + 5.0 * std::pow(place.share(h), 0.7 + 1.3 * place.r01); });
  fill_channels(att.time_faaaa, [&](int64_t h) { return place.r01 * (1.0 - place.share(h)) + 0.1 * Place::zigzag(h); });
  for (auto* weight : {&att.time_maa_w1, &att.time_maa_w2, &att.time_decay_w1, &att.time_decay_w2}) {
    torch::nn::init::uniform_(*weight, -kLowRankReach, kLowRankReach);
  }
}

void fill_fancy(BlockImpl& block, const Place& place) {
  block.att6 ? fill_attention(*block.att6, place) : fill_attention(*block.att, place);
  for (auto* mix : {&block.ffn->spatial_mix_k, &block.ffn->spatial_mix_r}) {
    fill_channels(*mix, [&](int64_t h) { return place.ramp(h, place.r10); });
  }
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

void initialize_blocks(torch::nn::ModuleListImpl& blocks, const VrwkvOptions& options) {
  const torch::NoGradGuard no_grad;
  initialize_linears(blocks);
  for (int64_t layer = 0; layer < options.depth; ++layer) {
    auto& block = *blocks[static_cast<size_t>(layer)]->as<BlockImpl>();
    switch (options.init_mode) {
      case InitMode::fancy:
        fill_fancy(block, Place(layer, options.depth, options.embed_dims));
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
