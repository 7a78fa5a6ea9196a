#pragma once

#include <ATen/core/Tensor.h>

namespace vrwkv::bench {

/// ops::bi_wkv (same arguments, same result) written with LibTorch's tensor operations: two scans over tokens with a
/// running maximum, one step for all [B, C] at once, differentiable through autograd. It is what one would write
/// without the operator, and what the operator's speed is compared with.
at::Tensor tensor_scan_bi_wkv(const at::Tensor& w, const at::Tensor& u, const at::Tensor& k, const at::Tensor& v);

}  // namespace vrwkv::bench
