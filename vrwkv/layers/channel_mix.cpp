#include "vrwkv/layers/channel_mix.h"

#include <torch/nn/options/linear.h>

#include "ops/bi_wkv6_head.h"
#include "ops/linear.h"
#include "ops/squared_relu.h"
#include "ops/squared_relu_mlp.h"
#include "vrwkv/layers/layer_norm.h"
#include "vrwkv/layers/token_shift.h"

namespace vrwkv {

ChannelMixImpl::ChannelMixImpl(ChannelMixOptions options) : options_(options) { reset(); }

void ChannelMixImpl::reset() {
  const int64_t channels = options_.embed_dims;
  const int64_t hidden = channels * options_.hidden_rate;
  spatial_mix_k = register_parameter("spatial_mix_k", torch::ones({1, 1, channels}));
  spatial_mix_r = register_parameter("spatial_mix_r", torch::ones({1, 1, channels}));
  key = register_module("key", torch::nn::Linear(torch::nn::LinearOptions(channels, hidden).bias(false)));
  if (options_.key_norm) key_norm = register_module("key_norm", torch::nn::LayerNorm(layer_norm_options(hidden)));
  receptance =
      register_module("receptance", torch::nn::Linear(torch::nn::LinearOptions(channels, channels).bias(false)));
  value = register_module("value", torch::nn::Linear(torch::nn::LinearOptions(hidden, channels).bias(false)));
}

void ChannelMixImpl::pretty_print(std::ostream& stream) const {
  stream << "vrwkv::ChannelMix(embed_dims=" << options_.embed_dims << ", hidden_rate=" << options_.hidden_rate
         << ", key_norm=" << options_.key_norm << ", head_shift=" << options_.head_shift << ")";
}

GatedValue ChannelMixImpl::forward(Stream& stream, const NormAffine& norm, const Tokens& tokens) {
  const auto group = options_.head_shift ? std::optional(ops::kBiWkv6HeadSize) : std::nullopt;
  const std::vector<torch::Tensor> mixed =
      mix_stream(stream, norm, {spatial_mix_k, spatial_mix_r}, {tokens, options_.shift, group});
  const torch::Tensor mlp =
      key_norm ? ops::linear(key_norm(ops::squared_relu(ops::linear(mixed[0], key->weight))), value->weight)
               : ops::squared_relu_mlp(mixed[0], key->weight, value->weight);
  return {mlp, ops::linear(mixed[1], receptance->weight)};
}

bool ChannelMixImpl::is_operator(const Tokens& tokens) const {
  return !key_norm && !options_.head_shift && shifts_whole_grid({tokens, options_.shift});
}

ops::ChannelMixParameters ChannelMixImpl::parameters(const NormAffine& norm) const {
  return {.mix_k = spatial_mix_k,
          .mix_r = spatial_mix_r,
          .key = key->weight,
          .receptance = receptance->weight,
          .value = value->weight,
          .norm_weight = norm.weight,
          .norm_bias = norm.bias};
}

}  // namespace vrwkv
