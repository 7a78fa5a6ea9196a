#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace vrwkv::ops {

/// What follows the attention of VRWKV6 (that of RWKV-6, arXiv 2404.05892): a norm of each head of each token, and a
/// gate.
///
///   out = ((y - mean) / sqrt(variance + eps) * weight + bias) * gate * sigmoid(gate)
///
/// with the mean and the (biased) variance over the C / heads channels of a head.
///
/// @param y       [B, T, C]; float64, float32, bfloat16 or float16, on CPU or CUDA.
/// @param gate    [B, T, C], in y's dtype.
/// @param weight  [C], in y's dtype or its accumulation dtype, float32 (float64 for float64).
/// @param bias    [C], dtype like weight.
/// @param heads   A divisor of C.
/// @return        [B, T, C] in y's dtype, contiguous, rounded once.
///
/// Differentiable, on CUDA with heads of 64 channels once; two runs give equal bits. There both passes read and write
/// every tensor once and keep nothing but the inputs. Registered as vrwkv::head_norm_gate; takes its tensors as they
/// are under autocast. Throws c10::Error that names argument, expected and actual.
at::Tensor head_norm_gate(const at::Tensor& y, const at::Tensor& gate, const at::Tensor& weight, const at::Tensor& bias,
                          int64_t heads, double eps);

}  // namespace vrwkv::ops
