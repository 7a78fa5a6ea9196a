#pragma once

#include <torch/types.h>

#include <initializer_list>
#include <vector>

#include "ops/optional_tensor.h"
#include "ops/token_shift_mix.h"
#include "vrwkv/layers/grid.h"
#include "vrwkv/layers/stream.h"

namespace vrwkv {

/// x m + qshift(x) (1 - m) for each of `mixes` [1, 1, C], where x is `feed` [B, T, C] times norm.weight plus norm.bias.
inline std::vector<torch::Tensor> mix_tokens(const torch::Tensor& feed, const NormAffine& norm,
                                             std::initializer_list<torch::Tensor> mixes, Grid grid) {
  return ops::token_shift_mix(feed, mixes, ops::optional_tensor(norm.weight), ops::optional_tensor(norm.bias),
                              grid.height, grid.width);
}

}  // namespace vrwkv
