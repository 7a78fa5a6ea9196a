#include "vrwkv/layers/spatial_mix.h"

#include <torch/nn/options/linear.h>
#include <torch/nn/options/normalization.h>

#include "ops/bi_wkv.h"
#include "ops/bi_wkv_gated.h"
#include "ops/bi_wkv_published.h"
#include "ops/linear.h"
#include "ops/weight_quotients.h"
#include "vrwkv/layers/layer_norm.h"
#include "vrwkv/layers/token_shift.h"

namespace vrwkv {

SpatialMixImpl::SpatialMixImpl(SpatialMixOptions options) : options_(options) { reset(); }

void SpatialMixImpl::reset() {
  const int64_t channels = options_.embed_dims;
  spatial_decay = register_parameter("spatial_decay", torch::ones({channels}));
  spatial_first = register_parameter("spatial_first", torch::ones({channels}));
  spatial_mix_k = register_parameter("spatial_mix_k", torch::ones({1, 1, channels}));
  spatial_mix_v = register_parameter("spatial_mix_v", torch::ones({1, 1, channels}));
  spatial_mix_r = register_parameter("spatial_mix_r", torch::ones({1, 1, channels}));
  const auto linear = torch::nn::LinearOptions(channels, channels).bias(false);
  key = register_module("key", torch::nn::Linear(linear));
  value = register_module("value", torch::nn::Linear(linear));
  receptance = register_module("receptance", torch::nn::Linear(linear));
  if (options_.key_norm) key_norm = register_module("key_norm", torch::nn::LayerNorm(layer_norm_options(channels)));
  output = register_module("output", torch::nn::Linear(linear));
}

void SpatialMixImpl::pretty_print(std::ostream& stream) const {
  stream << "vrwkv::SpatialMix(embed_dims=" << options_.embed_dims << ", key_norm=" << options_.key_norm
         << ", published_wkv=" << options_.published_wkv << ")";
}

BiWkvInputs SpatialMixImpl::project(Stream& stream, const NormAffine& norm, const Tokens& tokens) {
  const std::vector<torch::Tensor> projected =
      project_mixes(stream, norm, {spatial_mix_k, spatial_mix_v, spatial_mix_r},
                    {key->weight, value->weight, receptance->weight}, {tokens, options_.shift});
  const auto [w, u] = ops::divided_weights(spatial_decay, spatial_first, static_cast<double>(tokens.count()));
  return {.w = w, .u = u, .k = projected[0], .v = projected[1], .r = projected[2]};
}

torch::Tensor SpatialMixImpl::mix(Stream& stream, const NormAffine& norm, const Tokens& tokens) {
  const auto [w, u, k, v, r] = project(stream, norm, tokens);
  if (!key_norm && !options_.published_wkv) return ops::bi_wkv_gated(w, u, k, v, r);
  torch::Tensor y = options_.published_wkv ? ops::bi_wkv_published(w, u, k, v) : ops::bi_wkv(w, u, k, v);
  if (key_norm) y = key_norm(y);
  return torch::sigmoid(r) * y;
}

torch::Tensor SpatialMixImpl::forward(Stream& stream, const NormAffine& norm, const Tokens& tokens) {
  return ops::linear(mix(stream, norm, tokens), output->weight);
}

}  // namespace vrwkv
