#pragma once

#include <torch/types.h>

#include <initializer_list>
#include <vector>

#include "vrwkv/layers/stream.h"
#include "vrwkv/layers/tokens.h"
#include "vrwkv/options.h"

namespace vrwkv {

/// x [B, T, C] shifted. Q-Shift of a sparse sequence reads the neighbours in the grid that are part of it, 0 for the
/// others.
torch::Tensor shift_tokens(const torch::Tensor& x, const Tokens& tokens, Shift shift);

/// Tokens and their shift, [B, T, C] each.
struct ShiftedTokens {
  torch::Tensor x, shifted;
};

/// `feed` [B, T, C], to which `norm` is applied first, and its shift within each group of `group` channels, in the
/// accumulation dtype of `feed`.
ShiftedTokens shift_feed(const torch::Tensor& feed, const NormAffine& norm, const Tokens& tokens, Shift shift,
                         int64_t group);

/// x m + shifted (1 - m) for each of `mixes` [1, 1, C], in `dtype`.
std::vector<torch::Tensor> mix_shifted(const ShiftedTokens& tokens, std::initializer_list<torch::Tensor> mixes,
                                       at::ScalarType dtype);

}  // namespace vrwkv
