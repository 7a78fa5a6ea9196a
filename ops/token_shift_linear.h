#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <vector>

namespace vrwkv::ops {

/// token_shift_mix, and a linear layer without bias for each of its results (arXiv 2403.02308, equations 2 and 3):
///
///   out_j = (n * m_j + q_shift(n) * (1 - m_j)) weights_j^T,   n = x * weight + bias
///
/// @param x        [B, height * width, C], as token_shift_mix takes it.
/// @param mixes    1 to 3 tensors m_j of C elements.
/// @param weights  As many, [D_j, C], of x's dtype or, under autocast or for bfloat16 x, float32.
/// @param weight   [C] or none, with bias.
/// @return         out_j [B, height * width, D_j] in the dtype of the products.
///
/// Differentiable. Three mixes of bfloat16 x with 192 channels on a GPU of compute capability 9.0 are one kernel, in
/// which the mixes never reach memory, nor do they in that of its gradients, which are for weights in float32 and can
/// be had once; they are fastest where the results' gradients are slices of one [B, height * width, 3 C]. Elsewhere
/// token_shift_mix and products. Registered as vrwkv::token_shift_linear. Throws c10::Error that names argument,
/// expected and actual.
std::vector<at::Tensor> token_shift_linear(const at::Tensor& x, at::TensorList mixes, at::TensorList weights,
                                           const std::optional<at::Tensor>& weight,
                                           const std::optional<at::Tensor>& bias, int64_t height, int64_t width);

}  // namespace vrwkv::ops
