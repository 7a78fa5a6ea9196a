#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "ops/residual_add.h"

namespace vrwkv::ops {

/// What is mixed of the tokens of a residual sum, as token_shift_mix takes it.
struct SumMixes {
  std::vector<at::Tensor> mixes;
  at::Tensor weight = {}, bias = {};  ///< Of the norm whose standardisation the sum does; both or none.
  int64_t height, width;
};

struct ResidualMixOutput {
  at::Tensor x;                   ///< x + z, [B, T, C] in x's dtype
  std::vector<at::Tensor> mixed;  ///< [B, T, C] in value's dtype, for each of the mixes
};

/// The end of one branch and the beginning of the next: residual_add with a standardised feed, and token_shift_mix of
/// that feed, which nothing else reads.
///
/// @param x, branch, eps  As residual_add takes them; of the branch's parts value, gate and mask alone.
/// @param mixes           As token_shift_mix takes them, without groups.
///
/// Differentiable in all but the mask. Where residual_mix_is_joined(), one kernel gives the gradients of both, in which
/// that of the feed never reaches memory, nor is it rounded; they can be had once, and two runs give equal bits.
/// Elsewhere the two operators behind each other. Registered as vrwkv::residual_mix. Throws c10::Error that names
/// argument, expected and actual.
ResidualMixOutput residual_mix(const at::Tensor& x, const ResidualBranch& branch, const SumMixes& mixes, double eps);

/// Whether residual_mix has a kernel for the gradients of both, for 2 or 3 mixes, and they are asked for: float32 x
/// with values like `value`, bfloat16 or float16, of 256 to 1024 channels in steps of 128, on a GPU of compute
/// capability 9.0. It can say so before there is a value, by another tensor like it.
bool residual_mix_is_joined(const at::Tensor& x, const at::Tensor& value);

}  // namespace vrwkv::ops
