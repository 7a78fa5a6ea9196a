#pragma once

#include <ATen/core/Tensor.h>

namespace vrwkv::ops {

/// The hidden part of a channel mix (arXiv 2403.02308, equation 8): relu(x key^T)^2 value^T.
///
/// @param x      [..., C], any floating point dtype, on CPU or CUDA.
/// @param key    [H, C], of x's dtype or, under autocast or for bfloat16 x, float32.
/// @param value  [C', H], likewise.
/// @return       [..., C'] in the dtype of the products.
///
/// Differentiable. bfloat16 x (bfloat16 autocast makes it so) with float32 key and value, C = C' = 192 and H a multiple
/// of 64, or C = C' = 384 and H a multiple of 128, on a GPU of compute capability 9.0: the sums x key^T and the
/// gradient of the hidden channels never reach memory, x and the hidden channels alone are kept for the backward pass,
/// gradients of key and value are products' float32 sums, not rounded, and the gradient can be had once. Elsewhere the
/// composition of linear layers and squared_relu, whose roundings it has. Registered as vrwkv::squared_relu_mlp. Throws
/// c10::Error that names argument, expected and actual.
at::Tensor squared_relu_mlp(const at::Tensor& x, const at::Tensor& key, const at::Tensor& value);

}  // namespace vrwkv::ops
