#pragma once

#include <ATen/core/Tensor.h>

namespace vrwkv::ops {

/// The end of a patch embedding: x + (bias + places), rounded once.
///
/// @param x       [B, T, C] of any floating point dtype.
/// @param bias    [C], and
/// @param places  [1, T, C]: floating point.
/// @return        [B, T, C] in x's dtype.
///
/// On CUDA, for x in bfloat16 or float16 with the others in float32 and C a multiple of 8, one kernel; the gradients of
/// bias and places are then sums in float32, of which the former adds up the latter. Once differentiable there.
at::Tensor add_places(const at::Tensor& x, const at::Tensor& bias, const at::Tensor& places);

}  // namespace vrwkv::ops
