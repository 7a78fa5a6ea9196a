#pragma once

#include <torch/types.h>

#include <initializer_list>
#include <vector>

#include "ops/optional_tensor.h"
#include "ops/token_shift_linear.h"
#include "ops/token_shift_mix.h"
#include "vrwkv/layers/stream.h"
#include "vrwkv/layers/token_shift.h"
#include "vrwkv/layers/tokens.h"
#include "vrwkv/options.h"

namespace vrwkv {

/// Whether a shift is Q-Shift over a whole grid, which operators have fused with what is around it.
inline bool shifts_whole_grid(const Tokens& tokens, Shift shift) { return shift == Shift::q_shift && !tokens.sparse(); }

/// x m + shift(x) (1 - m) for each of `mixes` [1, 1, C], where x is `feed` [B, T, C] times norm.weight plus norm.bias.
/// Q-Shift over a whole grid is one operator.
inline std::vector<torch::Tensor> mix_tokens(const torch::Tensor& feed, const NormAffine& norm,
                                             std::initializer_list<torch::Tensor> mixes, const Tokens& tokens,
                                             Shift shift) {
  if (!shifts_whole_grid(tokens, shift)) {
    return mix_shifted(shift_feed(feed, norm, tokens, shift, feed.size(2)), mixes, feed.scalar_type());
  }
  return ops::token_shift_mix(feed, mixes, ops::optional_tensor(norm.weight), ops::optional_tensor(norm.bias),
                              tokens.grid.height, tokens.grid.width);
}

/// mix_tokens, and of each result the product with one of `weights` [D, C].
inline std::vector<torch::Tensor> project_mixes(const torch::Tensor& feed, const NormAffine& norm,
                                                std::initializer_list<torch::Tensor> mixes,
                                                std::initializer_list<torch::Tensor> weights, const Tokens& tokens,
                                                Shift shift) {
  if (shifts_whole_grid(tokens, shift)) {
    return ops::token_shift_linear(feed, mixes, weights, ops::optional_tensor(norm.weight),
                                   ops::optional_tensor(norm.bias), tokens.grid.height, tokens.grid.width);
  }
  std::vector<torch::Tensor> results = mix_tokens(feed, norm, mixes, tokens, shift);
  auto weight = weights.begin();
  for (torch::Tensor& result : results) result = torch::linear(result, *weight++);
  return results;
}

}  // namespace vrwkv
