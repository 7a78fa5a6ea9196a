#pragma once

#include <ATen/core/Tensor.h>

#include <tuple>

// Small weights over one number, divided together once a step instead of each by a kernel of its own.

namespace vrwkv::ops {

/// Divides those of `weights`, all on one device, that are not kept by `divisor` yet, together, and keeps the results
/// as cast_weights() keeps casts. Does nothing outside a WeightCastScope.
void divide_weights(at::TensorList weights, double divisor);

/// first / divisor and second / divisor: what is kept, or else divided now. Once differentiable in the former case.
std::tuple<at::Tensor, at::Tensor> divided_weights(const at::Tensor& first, const at::Tensor& second, double divisor);

}  // namespace vrwkv::ops
