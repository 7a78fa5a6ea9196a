#pragma once

#include <ATen/core/Tensor.h>

#include <tuple>

namespace vrwkv::ops {

/// gr, gk, gv, gw, gu.
using BiWkv6Gradients = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor>;

/// TORCH_CHECKs of what every backend of bi_wkv6 demands of its inputs.
void check_bi_wkv6(const at::Tensor& r, const at::Tensor& k, const at::Tensor& v, const at::Tensor& w,
                   const at::Tensor& u);

/// The same for _bi_wkv6_backward, whose gy is like k.
void check_bi_wkv6_backward(const at::Tensor& r, const at::Tensor& k, const at::Tensor& v, const at::Tensor& w,
                            const at::Tensor& u, const at::Tensor& gy);

}  // namespace vrwkv::ops
