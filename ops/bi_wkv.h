#pragma once

#include <ATen/core/Tensor.h>

namespace vrwkv::ops {

/// Bi-WKV attention (arXiv 2403.02308, equation 3), in O(T) time and memory:
///
///   y_t = ( sum_{i != t} e^{k_i - (|t-i|-1) w} v_i + e^{u + k_t} v_t )
///       / ( sum_{i != t} e^{k_i - (|t-i|-1) w}     + e^{u + k_t}     )
///
/// for every batch element and channel on its own. w may be negative; the result stays exact for any finite k and w,
/// as each sum is kept relative to its largest term, one running maximum in each direction.
///
/// @param w  [C] decay per token (the module passes spatial_decay / T), in k's dtype or its accumulation dtype.
/// @param u  [C] bonus of the token itself (spatial_first / T), in w's dtype.
/// @param k  [B, T, C] keys; float64, float32, bfloat16 or float16, on CPU or CUDA; T >= 1; B or C may be 0.
/// @param v  [B, T, C] values, in k's dtype. On CUDA in float32 and narrower types their magnitudes, and those of the
///           gradient of y, should lie within 1e-18 and 1e18: smaller ones may count as 0, larger ones overflow.
/// @return   [B, T, C] in k's dtype. Sums are accumulated in float32 (float64 for float64 inputs).
///
/// Differentiable once in all four arguments; two runs give equal bits. Registered as vrwkv::bi_wkv, under autocast k
/// and v are brought to one reduced dtype and w, u to float32. Throws c10::Error that names argument, expected and
/// actual.
at::Tensor bi_wkv(const at::Tensor& w, const at::Tensor& u, const at::Tensor& k, const at::Tensor& v);

}  // namespace vrwkv::ops
