#pragma once

#include <ATen/core/Tensor.h>

namespace vrwkv::ops {

/// What the next branch reads of the sum, apart from the sum itself.
enum class Feed { none, cast, standardized };

/// A branch z by its parts; every part but `value` may be undefined. In the order in which they act:
struct ResidualBranch {
  at::Tensor value;             ///< [B, T, C]
  at::Tensor gate = {};         ///< [B, T, C], z = sigmoid(gate) * value
  at::Tensor norm_weight = {};  ///< [C], z = LayerNorm(z) over the channels; with norm_bias or not at all
  at::Tensor norm_bias = {};    ///< [C]
  at::Tensor scale = {};        ///< [C], z *= scale
  at::Tensor mask = {};         ///< B elements, z *= mask[b]; gets no gradient
};

struct ResidualOutput {
  at::Tensor x;     ///< x + z, [B, T, C] in x's dtype
  at::Tensor feed;  ///< [B, T, C] in value's dtype; undefined for Feed::none
};

/// x + z, all that lies between the last matrix product of one branch of a block and the first of the next, in one
/// pass.
///
/// @param x       [B, T, C]; float64, float32, bfloat16 or float16, on CPU or CUDA; any size may be 0. Undefined: no
///                residual, z alone, in the dtype of norm_weight, or of value where there is no norm.
/// @param branch  value and gate in x's dtype or, where x is float32, in bfloat16 or float16. norm_weight, norm_bias,
///                scale and mask in x's dtype or its accumulation dtype, float32 (float64 for float64).
/// @param feed    cast: x + z in value's dtype, which is the tensor x itself if the dtypes are equal.
///                standardized: (s - mean(s)) / sqrt(var(s) + eps) over the channels, s = x + z, with the biased
///                variance: a layer norm without its weight and bias, which the operation that reads it applies.
/// @param eps     Of both layer norms.
/// @return        Contiguous. Arithmetic is in the accumulation dtype, rounded once for each result.
///
/// Differentiable in all but the mask, on CUDA once; two runs give equal bits. On CUDA, up to 1024 channels, each
/// pass moves its tensors once, and x is not kept for the backward pass. Registered as vrwkv::residual_add, where
/// `feed` is 0, 1 or 2 and Feed::none gives an empty second tensor. Takes its tensors as they are under autocast.
/// Throws c10::Error that names argument, expected and actual.
ResidualOutput residual_add(const at::Tensor& x, const ResidualBranch& branch, Feed feed, double eps);

}  // namespace vrwkv::ops
