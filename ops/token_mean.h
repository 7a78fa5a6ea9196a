#pragma once

#include <ATen/core/Tensor.h>

namespace vrwkv::ops {

/// The mean over tokens.
///
/// @param x  [B, T, C] of any floating point dtype.
/// @return   [B, C] in the accumulation dtype: float32 for bfloat16 and float16.
///
/// On CUDA, for these two, kernels of our own read x, and write its gradient, once. Once differentiable there.
at::Tensor token_mean(const at::Tensor& x);

}  // namespace vrwkv::ops
