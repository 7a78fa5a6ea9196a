#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <tuple>
#include <vector>

// Gradients that more than one autograd function asks for, as the registered operators.

namespace vrwkv::ops {

/// Those of linears(x, weights) of the weights, in float32.
std::vector<at::Tensor> linear_weight_gradients(at::TensorList gy, at::TensorList x);

/// Those of add_places(), of bias and of places.
std::tuple<at::Tensor, at::Tensor> add_places_gradients(const at::Tensor& gy);

/// Those of token_shift_mix: of x, and [mixes + 2, C] of each mix, of weight and of bias, in the accumulation dtype.
std::tuple<at::Tensor, at::Tensor> token_shift_mix_gradients(const at::Tensor& x, at::TensorList mixes,
                                                             const std::optional<at::Tensor>& weight,
                                                             const std::optional<at::Tensor>& bias,
                                                             at::TensorList gradients, int64_t height, int64_t width,
                                                             std::optional<int64_t> group);

/// Row `row` of such sums as the gradient of `parameter`; undefined like it.
at::Tensor parameter_gradient(const at::Tensor& sums, int64_t row, const at::Tensor& parameter);

}  // namespace vrwkv::ops
