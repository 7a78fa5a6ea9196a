#pragma once

#include <torch/types.h>

#include <cstdint>
#include <optional>

namespace vrwkv {

/// A choice of tokens for each sample.
struct Masking {
  torch::Tensor kept;     ///< int64 [B, K] numbers of the visible tokens, in the order in which the encoder has them.
  torch::Tensor restore;  ///< int64 [B, T] where the token is among the kept ones followed by the masked ones.
  torch::Tensor mask;     ///< float32 [B, T], 1 where masked, 0 where visible.
};

/// The `visible` tokens with the smallest `noise` [B, T] are kept, in its order; of equal ones the first (He et al.,
/// arXiv 2111.06377, appendix). Does not wait for the device.
Masking random_masking(const torch::Tensor& noise, int64_t visible);

/// Uniform noise in [0, 1), float32 [batch, tokens]: from `generator`, or without one from the device's, which
/// torch::manual_seed() sets and a CUDA graph draws from anew.
torch::Tensor masking_noise(int64_t batch, int64_t tokens, at::Device device,
                            std::optional<at::Generator> generator = std::nullopt);

}  // namespace vrwkv
