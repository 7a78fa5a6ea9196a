#pragma once

#include <torch/types.h>

#include <initializer_list>
#include <vector>

#include "vrwkv/layers/stream.h"
#include "vrwkv/layers/token_shift.h"
#include "vrwkv/layers/tokens.h"
#include "vrwkv/options.h"

namespace vrwkv {

/// VRWKV6's shift: `feed` [B, T, C], to which `norm` is applied first, and its shift within every head of
/// ops::kBiWkv6HeadSize channels. Both [B, T, C] in the accumulation dtype of `feed`.
ShiftedTokens shift_heads(const torch::Tensor& feed, const NormAffine& norm, const Tokens& tokens,
                          Shift shift = Shift::q_shift);

/// x m + shifted (1 - m) of shift_heads, for each of `mixes` [1, 1, C]; [B, T, C] in the dtype of `feed`.
std::vector<torch::Tensor> mix_head_tokens(const torch::Tensor& feed, const NormAffine& norm,
                                           std::initializer_list<torch::Tensor> mixes, const Tokens& tokens,
                                           Shift shift);

}  // namespace vrwkv
