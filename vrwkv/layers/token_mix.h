#pragma once

#include <torch/nn/options/normalization.h>
#include <torch/types.h>

namespace vrwkv {

/// x m + shifted (1 - m) in one pass: [B, T, C] from x, shifted [B, T, C] and m [1, 1, C].
inline torch::Tensor mix_tokens(const torch::Tensor& x, const torch::Tensor& shifted, const torch::Tensor& m) {
  return torch::lerp(shifted, x, m);
}

/// Every layer norm of the published models: over the channels, eps 1e-5, with weight and bias.
inline torch::nn::LayerNormOptions layer_norm_options(int64_t channels) {
  return torch::nn::LayerNormOptions({channels}).eps(1e-5);
}

}  // namespace vrwkv
