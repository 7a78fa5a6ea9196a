#pragma once

#include <ATen/core/Tensor.h>

namespace vrwkv::ops {

/// The dtype of Bi-WKV's sums: float64 for float64, float32 for everything else.
at::ScalarType bi_wkv_accumulation_dtype(at::ScalarType dtype);

/// TORCH_CHECKs of what every backend of bi_wkv demands of its inputs.
void check_bi_wkv(const at::Tensor& w, const at::Tensor& u, const at::Tensor& k, const at::Tensor& v);

/// The same for _bi_wkv_backward, whose gy is like k.
void check_bi_wkv_backward(const at::Tensor& w, const at::Tensor& u, const at::Tensor& k, const at::Tensor& v,
                           const at::Tensor& gy);

}  // namespace vrwkv::ops
