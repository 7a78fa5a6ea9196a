#pragma once

#include <torch/types.h>

#include <initializer_list>
#include <vector>

#include "ops/optional_tensor.h"
#include "ops/token_shift_mix.h"
#include "vrwkv/layers/stream.h"
#include "vrwkv/layers/token_shift.h"
#include "vrwkv/layers/tokens.h"
#include "vrwkv/options.h"

namespace vrwkv {

/// x m + shift(x) (1 - m) for each of `mixes` [1, 1, C], where x is `feed` [B, T, C] times norm.weight plus norm.bias.
/// Q-Shift over a whole grid is one operator.
inline std::vector<torch::Tensor> mix_tokens(const torch::Tensor& feed, const NormAffine& norm,
                                             std::initializer_list<torch::Tensor> mixes, const Tokens& tokens,
                                             Shift shift) {
  if (shift != Shift::q_shift || tokens.sparse()) {
    return mix_shifted(shift_feed(feed, norm, tokens, shift, feed.size(2)), mixes, feed.scalar_type());
  }
  return ops::token_shift_mix(feed, mixes, ops::optional_tensor(norm.weight), ops::optional_tensor(norm.bias),
                              tokens.grid.height, tokens.grid.width);
}

}  // namespace vrwkv
