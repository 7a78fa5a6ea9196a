#pragma once

#include <ATen/core/Tensor.h>

namespace vrwkv::testing {

/// Bi-WKV as the paper writes it, in O(T^2): a softmax over tokens for every position. Built from LibTorch's own
/// operations, so that autograd gives the reference gradients. Pass float64 tensors.
at::Tensor bi_wkv_reference(const at::Tensor& w, const at::Tensor& u, const at::Tensor& k, const at::Tensor& v);

}  // namespace vrwkv::testing
