#pragma once

#include <ATen/core/Tensor.h>

namespace vrwkv::ops {

/// sigmoid(r) * bi_wkv(w, u, k, v): VRWKV's attention with its gate (arXiv 2403.02308, equation 4) in one pass over
/// memory on CUDA.
///
/// @param w, u, k, v  As in bi_wkv.
/// @param r           [B, T, C] logits of the gate, in k's dtype.
/// @return            [B, T, C] in k's dtype, rounded once.
///
/// Differentiable once on CUDA; two runs give equal bits. Registered as vrwkv::bi_wkv_gated; autocast brings r to k's
/// dtype. Throws c10::Error that names argument, expected and actual.
at::Tensor bi_wkv_gated(const at::Tensor& w, const at::Tensor& u, const at::Tensor& k, const at::Tensor& v,
                        const at::Tensor& r);

}  // namespace vrwkv::ops
