#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

// What the backends of head_norm_gate share.

namespace vrwkv::ops {

/// TORCH_CHECKs of what every backend of head_norm_gate demands of its inputs.
void check_head_norm_gate(const at::Tensor& y, const at::Tensor& gate, const at::Tensor& weight, const at::Tensor& bias,
                          int64_t heads);

/// Whether the CUDA kernels take heads of this size; all others go through head_norm_gate_composite.
bool head_norm_gate_is_fused(const at::Tensor& y, int64_t heads);

/// head_norm_gate by LibTorch's own operations, which differentiate themselves: every device and size.
at::Tensor head_norm_gate_composite(const at::Tensor& y, const at::Tensor& gate, const at::Tensor& weight,
                                    const at::Tensor& bias, int64_t heads, double eps);

}  // namespace vrwkv::ops
