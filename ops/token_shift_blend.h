#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <vector>

namespace vrwkv::ops {

/// Q-Shift and the five mixes of VRWKV6 that follow it, which depend on the token (those of RWKV-6, arXiv 2404.05892,
/// equation 13), after the affine part of a layer norm:
///
///   n = x * weight + bias,   out_j = n + (q_shift(n) - n) * (constant_j + share_j)
///
/// Outside the grid the shift reads 0: zero of n, not of x.
///
/// @param x          [B, height * width, C], tokens row by row; any floating point dtype, on CPU or CUDA.
/// @param constants  5 tensors of C elements ([C] or [1, 1, C]), in x's dtype or its accumulation dtype, float32
/// (float64
///                   for float64).
/// @param shares     [5, B, height * width, C], in x's dtype.
/// @param weight     [C], dtype like the constants; without it, n = x.
/// @param bias       [C]; with weight or not at all.
/// @param group      Channels that are shifted by quarters of their own, a divisor of C. Without: all C.
/// @return           out_j, 5 tensors [B, height * width, C] in x's dtype, contiguous, rounded once.
///
/// Differentiable, on CUDA once; two runs give equal bits. On CUDA both passes read and write every tensor once.
/// Registered as vrwkv::token_shift_blend; takes its tensors as they are under autocast. Throws c10::Error that names
/// argument, expected and actual.
std::vector<at::Tensor> token_shift_blend(const at::Tensor& x, at::TensorList constants, const at::Tensor& shares,
                                          const std::optional<at::Tensor>& weight,
                                          const std::optional<at::Tensor>& bias, int64_t height, int64_t width,
                                          std::optional<int64_t> group = std::nullopt);

}  // namespace vrwkv::ops
