#include "vrwkv/layers/spatial_mix6.h"

#include <ATen/Functions.h>
#include <ATen/OpMathType.h>
#include <ATen/TensorOperators.h>
#include <torch/nn/options/linear.h>
#include <torch/nn/options/normalization.h>

#include "ops/bi_wkv6.h"
#include "ops/head_norm_gate.h"
#include "ops/linear.h"
#include "vrwkv/layers/layer_norm.h"
#include "vrwkv/layers/token_shift.h"

namespace vrwkv {

SpatialMix6Impl::SpatialMix6Impl(SpatialMix6Options options) : options_(options) { reset(); }

void SpatialMix6Impl::reset() {
  const int64_t channels = options_.embed_dims;
  const int64_t heads = channels / ops::kBiWkv6HeadSize;
  const auto parameter = [this](const char* name, at::IntArrayRef sizes) {
    return register_parameter(name, torch::zeros(sizes));
  };
  time_maa_x = parameter("time_maa_x", {1, 1, channels});
  time_maa_w = parameter("time_maa_w", {1, 1, channels});
  time_maa_k = parameter("time_maa_k", {1, 1, channels});
  time_maa_v = parameter("time_maa_v", {1, 1, channels});
  time_maa_r = parameter("time_maa_r", {1, 1, channels});
  time_maa_g = parameter("time_maa_g", {1, 1, channels});
  time_maa_w1 = parameter("time_maa_w1", {channels, kMixes * kMixRank});
  time_maa_w2 = parameter("time_maa_w2", {kMixes, kMixRank, channels});
  time_decay = parameter("time_decay", {1, 1, channels});
  time_decay_w1 = parameter("time_decay_w1", {channels, kDecayRank});
  time_decay_w2 = parameter("time_decay_w2", {kDecayRank, channels});
  time_faaaa = parameter("time_faaaa", {heads, ops::kBiWkv6HeadSize});
  const auto linear = torch::nn::LinearOptions(channels, channels).bias(false);
  key = register_module("key", torch::nn::Linear(linear));
  value = register_module("value", torch::nn::Linear(linear));
  receptance = register_module("receptance", torch::nn::Linear(linear));
  gate = register_module("gate", torch::nn::Linear(linear));
  if (options_.key_norm) key_norm = register_module("key_norm", torch::nn::LayerNorm(layer_norm_options(channels)));
  output = register_module("output", torch::nn::Linear(linear));
  ln_x = register_module("ln_x", torch::nn::GroupNorm(torch::nn::GroupNormOptions(heads, channels).eps(kLayerNormEps)));
}

void SpatialMix6Impl::pretty_print(std::ostream& stream) const {
  stream << "vrwkv::SpatialMix6(embed_dims=" << options_.embed_dims << ", key_norm=" << options_.key_norm << ")";
}

torch::Tensor SpatialMix6Impl::forward(const torch::Tensor& feed, const NormAffine& norm, const Tokens& tokens) {
  const ShiftOf shift{tokens, options_.shift, ops::kBiWkv6HeadSize};
  const auto wide = at::toOpMathType(feed.scalar_type());
  const torch::Tensor asked = mix_tokens(feed, norm, {1 - time_maa_x.to(wide)}, shift)[0];
  const torch::Tensor hidden = at::tanh(at::matmul(asked, time_maa_w1)).view({-1, kMixes, kMixRank}).transpose(0, 1);
  const torch::Tensor shares = at::bmm(hidden, time_maa_w2).unflatten(1, {-1, tokens.count()});
  const std::vector<torch::Tensor> mixed =
      blend_tokens(feed, norm, {time_maa_w, time_maa_k, time_maa_v, time_maa_r, time_maa_g}, shares, shift);
  const torch::Tensor faded = at::matmul(at::tanh(at::matmul(mixed[0], time_decay_w1)), time_decay_w2);
  const torch::Tensor w = time_decay.to(wide) + faded;
  const torch::Tensor k = ops::linear(mixed[1], key->weight), v = ops::linear(mixed[2], value->weight);
  const torch::Tensor r = ops::linear(mixed[3], receptance->weight), g = ops::linear(mixed[4], gate->weight);
  torch::Tensor y = ops::bi_wkv6(r, k, v, w, time_faaaa);
  if (key_norm) y = key_norm(y).to(g.scalar_type());
  const torch::Tensor z =
      ops::head_norm_gate(y, g, ln_x->weight, ln_x->bias, ln_x->options.num_groups(), kLayerNormEps);
  return ops::linear(z, output->weight);
}

}  // namespace vrwkv
