#pragma once

#include <ATen/core/Tensor.h>

namespace vrwkv::ops {

/// TORCH_CHECKs of what every backend of bi_wkv demands of its inputs.
void check_bi_wkv(const at::Tensor& w, const at::Tensor& u, const at::Tensor& k, const at::Tensor& v);

/// The same for _bi_wkv_backward, whose gy is like k.
void check_bi_wkv_backward(const at::Tensor& w, const at::Tensor& u, const at::Tensor& k, const at::Tensor& v,
                           const at::Tensor& gy);

/// The same for bi_wkv_gated, whose r is like k.
void check_bi_wkv_gated(const at::Tensor& w, const at::Tensor& u, const at::Tensor& k, const at::Tensor& v,
                        const at::Tensor& r);

/// TORCH_CHECKs that `tensor`, called `name`, has shape, dtype and device of k.
void check_like_k(const char* name, const at::Tensor& tensor, const at::Tensor& k);

}  // namespace vrwkv::ops
