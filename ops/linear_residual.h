#pragma once

#include <ATen/core/Tensor.h>

#include "ops/residual_add.h"

namespace vrwkv::ops {

/// The last linear layer of a branch and the residual sum behind it: x + mask[b] (value weight^T).
///
/// @param x       [B, T, D], as residual_add takes it.
/// @param value   [B, T, C], what the linear layer reads, as linear takes it.
/// @param weight  [D, C], as linear takes it.
/// @param mask    B elements or undefined, as residual_add's.
/// @param feed, eps, and the result: as those of residual_add; the feed is in the dtype of the product.
///
/// Differentiable in all but the mask. Float32 x with bfloat16 values and C = D = 192 on a GPU of compute capability
/// 9.0 are one kernel, in which the product never reaches memory, nor is it rounded; its gradients are for a weight in
/// float32 and can be had once. Elsewhere linear and residual_add. Registered as vrwkv::linear_residual. Throws
/// c10::Error that names argument, expected and actual.
ResidualOutput linear_residual(const at::Tensor& x, const at::Tensor& value, const at::Tensor& weight,
                               const at::Tensor& mask, Feed feed, double eps);

}  // namespace vrwkv::ops
