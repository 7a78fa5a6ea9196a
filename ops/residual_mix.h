#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "ops/residual_add.h"

namespace vrwkv::ops {

struct ResidualMixOutput {
  at::Tensor x;                   ///< x + z, [B, height * width, C] in x's dtype
  std::vector<at::Tensor> mixed;  ///< [B, height * width, C] in value's dtype, for each of the mixes
};

/// The end of a branch and the beginning of the next one, where branches are normalised at their ends: residual_add
/// with a cast feed, and token_shift_mix of that feed without weight and bias, which nothing else reads.
///
/// @param x, branch, eps  As residual_add takes them, with x.
/// @param mixes           1 to 3 tensors of C elements, as token_shift_mix takes them.
///
/// Differentiable in all but the mask. For branches with a norm and 2 or 3 mixes, where residual_mix_is_joined(), one
/// kernel gives the gradients of both, in which that of the feed never reaches memory, nor is it rounded; they can be
/// had once, and two runs give equal bits. Elsewhere the two operators behind each other. Registered as
/// vrwkv::residual_mix. Throws c10::Error that names argument, expected and actual.
ResidualMixOutput residual_mix(const at::Tensor& x, const ResidualBranch& branch, at::TensorList mixes, int64_t height,
                               int64_t width, double eps);

/// Whether residual_mix has a kernel for its gradients and they are asked for: float32 x with values like `value`,
/// bfloat16 or float16, of 256 to 1024 channels in steps of 128, on a GPU of compute capability 9.0. It can say so
/// before there is a value, by another tensor like it.
bool residual_mix_is_joined(const at::Tensor& x, const at::Tensor& value);

}  // namespace vrwkv::ops
