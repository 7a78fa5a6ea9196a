#pragma once

#include <torch/types.h>

#include <initializer_list>
#include <vector>

#include "vrwkv/layers/grid.h"
#include "vrwkv/layers/stream.h"

namespace vrwkv {

/// Tokens and their Q-Shift within each head.
struct HeadShift {
  torch::Tensor x, shifted;
};

/// VRWKV6's shift: `feed` [B, T, C], tokens of `grid`, to which `norm` is applied first, and its Q-Shift by the
/// quarters of every head of ops::kBiWkv6HeadSize channels. Both [B, T, C] in the accumulation dtype of `feed`.
HeadShift shift_heads(const torch::Tensor& feed, const NormAffine& norm, Grid grid);

/// x m + shifted (1 - m) of shift_heads, for each of `mixes` [1, 1, C]; [B, T, C] in the dtype of `feed`.
std::vector<torch::Tensor> mix_head_tokens(const torch::Tensor& feed, const NormAffine& norm,
                                           std::initializer_list<torch::Tensor> mixes, Grid grid);

}  // namespace vrwkv
