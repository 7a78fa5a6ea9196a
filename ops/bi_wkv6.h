#pragma once

#include <ATen/core/Tensor.h>

#include "ops/bi_wkv6_head.h"

namespace vrwkv::ops {

/// Bidirectional attention of VRWKV6 (that of RWKV-6, arXiv 2404.05892, read in both directions of time), in O(T)
/// time and memory. For every batch element and head of N = 64 channels, with row vectors and d_t = exp(-exp(w_t)):
///
///   y_t = r_t ( diag(u) k_t^T v_t + S_t + S'_t )
///   S_t = sum_{s < t} diag(prod_{s < m < t} d_m) k_s^T v_s,   S'_t = sum_{s > t} diag(prod_{t < m < s} d_m) k_s^T v_s
///
/// @param r  [B, T, C] receptance, C = heads * 64, in k's dtype.
/// @param k  [B, T, C] keys; float64, float32, bfloat16 or float16; any B, T and number of heads, 0 included.
/// @param v  [B, T, C] values, in k's dtype.
/// @param w  [B, T, C] decays before the two exponentials, of any size, in k's dtype or its accumulation dtype.
///           A factor exp(-exp(w)) lies within 0 and 1 and is never divided by.
/// @param u  [heads, 64] bonus of the token itself, in k's dtype or its accumulation dtype.
/// @return   [B, T, C] in k's dtype. Sums are accumulated in float32 (float64 for float64 inputs).
///
/// Differentiable once in all five arguments; two runs give equal bits. On CUDA, bfloat16 inputs are multiplied as
/// bfloat16 (each result within 4e-3, gradients of w within 1e-2), others to their accumulation type's precision.
/// Devices other than CPU and CUDA raise c10::NotImplementedError. Registered as vrwkv::bi_wkv6; under autocast r, k
/// and v are brought to one reduced dtype and w, u to float32. Throws c10::Error that names argument, expected and
/// actual.
at::Tensor bi_wkv6(const at::Tensor& r, const at::Tensor& k, const at::Tensor& v, const at::Tensor& w,
                   const at::Tensor& u);

}  // namespace vrwkv::ops
