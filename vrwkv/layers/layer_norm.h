#pragma once

#include <torch/nn/options/normalization.h>

#include <cstdint>

namespace vrwkv {

inline constexpr double kLayerNormEps = 1e-5;

/// Every layer norm of the published models: over the channels, with weight and bias.
inline torch::nn::LayerNormOptions layer_norm_options(int64_t channels) {
  return torch::nn::LayerNormOptions({channels}).eps(kLayerNormEps);
}

}  // namespace vrwkv
