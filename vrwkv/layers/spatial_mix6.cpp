#include "vrwkv/layers/spatial_mix6.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <torch/nn/options/linear.h>
#include <torch/nn/options/normalization.h>

#include "ops/bi_wkv6.h"
#include "vrwkv/layers/head_shift.h"
#include "vrwkv/layers/layer_norm.h"

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
  const auto [x, shifted] = shift_heads(feed, norm, tokens, options_.shift);
  const torch::Tensor difference = shifted - x;
  const auto wide = x.scalar_type(), narrow = feed.scalar_type();
  const torch::Tensor asked = at::addcmul(x, difference, time_maa_x.to(wide)).to(narrow);
  const torch::Tensor hidden = at::tanh(at::matmul(asked, time_maa_w1)).view({-1, kMixes, kMixRank}).transpose(0, 1);
  const torch::Tensor shares = at::bmm(hidden, time_maa_w2).unflatten(1, {-1, tokens.count()});
  const auto mixed = [&, &x = x](int64_t mix, const torch::Tensor& constant) {
    return at::addcmul(x, difference, constant.to(wide) + shares.select(0, mix)).to(narrow);
  };
  const torch::Tensor faded = at::matmul(at::tanh(at::matmul(mixed(0, time_maa_w), time_decay_w1)), time_decay_w2);
  const torch::Tensor w = time_decay.to(wide) + faded;
  const torch::Tensor k = key(mixed(1, time_maa_k));
  const torch::Tensor v = value(mixed(2, time_maa_v));
  const torch::Tensor r = receptance(mixed(3, time_maa_r));
  torch::Tensor y = ops::bi_wkv6(r, k, v, w, time_faaaa);
  if (key_norm) y = key_norm(y);
  y = ln_x(y.flatten(0, 1)).view_as(y);
  return output(y * at::silu(gate(mixed(4, time_maa_g))));
}

}  // namespace vrwkv
