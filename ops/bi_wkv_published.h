#pragma once

#include <ATen/core/Tensor.h>

namespace vrwkv::ops {

/// What the public CUDA kernel computes in place of Bi-WKV, and what the published weights were therefore trained with.
/// It cuts the tokens into at most 32 chunks of L = ceil(T / 32), and with s the first token of t's chunk weighs
///
///   i = t: e^{u + k_t};  i > t: e^{k_i - (i-t) w};  s <= i < t: e^{k_i - (t-i-1) w};  i < s: e^{k_i - (t-i) w};
///   and once more s < i <= t: e^{k_i + (t-i) w} (1 - e^w).
///
/// Arguments and result as of bi_wkv(), which is the paper's formula; to be differentiated any number of times, with
/// the true gradient. Computed in float64 by LibTorch's operations, in O(T) memory: for exact results with published
/// weights, not for speed. The last term can cancel the others where w T is large and positive; the formula is so.
/// Registered as vrwkv::bi_wkv_published.
at::Tensor bi_wkv_published(const at::Tensor& w, const at::Tensor& u, const at::Tensor& k, const at::Tensor& v);

}  // namespace vrwkv::ops
