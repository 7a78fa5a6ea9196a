#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <optional>
#include <tuple>

// squared_relu_mlp's parts, for its dispatch keys.

namespace vrwkv::ops {

at::Tensor squared_relu_mlp_composite(const at::Tensor& x, const at::Tensor& key, const at::Tensor& value);

/// Whether there are kernels for bfloat16 x of this shape, and these weights.
bool squared_relu_mlp_is_fused(const at::Tensor& x, const at::Tensor& key, const at::Tensor& value);

/// y, and the hidden channels [..., H].
std::tuple<at::Tensor, at::Tensor> squared_relu_mlp_forward(const at::Tensor& x, const at::Tensor& key,
                                                            const at::Tensor& value);

/// Gradients of x, key and value; undefined where `needed` is false. `key` and `value` may be their casts to bfloat16;
/// `packed` is the value in kHiddenGradientOrder, packed now without where the kernel reads it.
std::tuple<at::Tensor, at::Tensor, at::Tensor> squared_relu_mlp_backward(const at::Tensor& gy, const at::Tensor& x,
                                                                         const at::Tensor& hidden,
                                                                         const at::Tensor& key, const at::Tensor& value,
                                                                         const std::optional<at::Tensor>& packed,
                                                                         std::array<bool, 3> needed);

}  // namespace vrwkv::ops
