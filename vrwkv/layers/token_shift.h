#pragma once

#include <torch/types.h>

#include <initializer_list>
#include <optional>
#include <vector>

#include "vrwkv/layers/stream.h"
#include "vrwkv/layers/tokens.h"
#include "vrwkv/options.h"

namespace vrwkv {

/// x [B, T, C] shifted, each `group` of channels on its own (without: all C). Q-Shift of a sparse sequence reads the
/// neighbours in the grid that are part of it, 0 for the others.
torch::Tensor shift_tokens(const torch::Tensor& x, const Tokens& tokens, Shift shift,
                           std::optional<int64_t> group = std::nullopt);

/// Which of a sequence's tokens a token is mixed with.
struct ShiftOf {
  Tokens tokens;
  Shift shift;
  std::optional<int64_t> group = std::nullopt;  ///< As shift_tokens takes it.
};

/// Whether it is Q-Shift over a whole grid, which operators have fused with what is around it.
inline bool shifts_whole_grid(const ShiftOf& shift) { return shift.shift == Shift::q_shift && !shift.tokens.sparse(); }

/// x m + shift(x) (1 - m) for each of `mixes` [1, 1, C], where x is `feed` [B, T, C] times norm.weight plus norm.bias;
/// [B, T, C] in the dtype of `feed`. Q-Shift over a whole grid is one operator.
std::vector<torch::Tensor> mix_tokens(const torch::Tensor& feed, const NormAffine& norm,
                                      std::initializer_list<torch::Tensor> mixes, const ShiftOf& shift);

/// mix_tokens of the feed of `stream`; adds to the stream what it still has to, in the same operator.
std::vector<torch::Tensor> mix_stream(Stream& stream, const NormAffine& norm,
                                      std::initializer_list<torch::Tensor> mixes, const ShiftOf& shift);

/// mix_stream without groups, and of each result the product with one of `weights` [D, C].
std::vector<torch::Tensor> project_mixes(Stream& stream, const NormAffine& norm,
                                         std::initializer_list<torch::Tensor> mixes,
                                         std::initializer_list<torch::Tensor> weights, const ShiftOf& shift);

/// x + (shift(x) - x) (constant_j + shares[j]) for each of five `constants` [1, 1, C], with shares [5, B, T, C] in the
/// dtype of `feed`; otherwise as mix_tokens.
std::vector<torch::Tensor> blend_tokens(const torch::Tensor& feed, const NormAffine& norm,
                                        std::initializer_list<torch::Tensor> constants, const torch::Tensor& shares,
                                        const ShiftOf& shift);

}  // namespace vrwkv
