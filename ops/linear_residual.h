#pragma once

#include <ATen/core/Tensor.h>

#include "ops/residual_add.h"

namespace vrwkv::ops {

/// residual_add of x and a linear layer without bias: x + value weight^T, and its feed.
///
/// @param x       [B, T, C], as residual_add takes it.
/// @param value   [B, T, D].
/// @param weight  [C, D], of value's dtype or, under autocast or for bfloat16 values, float32.
/// @param feed, eps, and the result: as those of residual_add.
///
/// Differentiable. Where no gradient is asked for, float32 x and bfloat16 values with C = D = 192 on a GPU of compute
/// capability 9.0 are one kernel. Registered as vrwkv::linear_residual. Throws c10::Error that names argument, expected
/// and actual.
ResidualOutput linear_residual(const at::Tensor& x, const at::Tensor& value, const at::Tensor& weight, Feed feed,
                               double eps);

}  // namespace vrwkv::ops
