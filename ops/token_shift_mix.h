#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <vector>

namespace vrwkv::ops {

/// Q-Shift and the mixes that follow it (arXiv 2403.02308, equation 2), after the affine part of a layer norm:
///
///   n = x * weight + bias,   out_j = n * m_j + q_shift(n) * (1 - m_j)
///
/// Outside the grid the shift reads 0: zero of n, not of x.
///
/// @param x       [B, height * width, C], tokens row by row; any floating point dtype, on CPU or CUDA.
/// @param mixes   1 to 3 tensors m_j of C elements ([C] or [1, 1, C]), in x's dtype or its accumulation dtype, float32
///                (float64 for float64).
/// @param weight  [C], dtype like the mixes; without it, n = x.
/// @param bias    [C]; with weight or not at all.
/// @param group   Channels that are shifted by quarters of their own, a divisor of C. Without: all C.
/// @return        out_j for each of the mixes: [B, height * width, C] in x's dtype, contiguous, rounded once.
///
/// Differentiable, on CUDA once; two runs give equal bits. On CUDA both passes read and write every tensor once.
/// Registered as vrwkv::token_shift_mix; takes its tensors as they are under autocast. Throws c10::Error that names
/// argument, expected and actual.
std::vector<at::Tensor> token_shift_mix(const at::Tensor& x, at::TensorList mixes,
                                        const std::optional<at::Tensor>& weight, const std::optional<at::Tensor>& bias,
                                        int64_t height, int64_t width, std::optional<int64_t> group = std::nullopt);

}  // namespace vrwkv::ops
