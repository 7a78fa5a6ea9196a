#pragma once

#include <ATen/Functions.h>
#include <ATen/core/Tensor.h>

#include <optional>
#include <tuple>
#include <vector>

#include "ops/residual_add.h"

// Operators that join others, as compositions of operators that differentiate themselves, for every device, dtype and
// size.

namespace vrwkv::ops {

std::vector<at::Tensor> token_shift_linear_composite(const at::Tensor& x, at::TensorList mixes, at::TensorList weights,
                                                     const std::optional<at::Tensor>& weight,
                                                     const std::optional<at::Tensor>& bias, int64_t height,
                                                     int64_t width);

std::tuple<at::Tensor, at::Tensor> channel_mix_composite(const at::Tensor& x, const at::Tensor& feed,
                                                         const at::Tensor& mix_k, const at::Tensor& mix_r,
                                                         const at::Tensor& key, const at::Tensor& receptance,
                                                         const at::Tensor& value,
                                                         const std::optional<at::Tensor>& norm_weight,
                                                         const std::optional<at::Tensor>& norm_bias, int64_t height,
                                                         int64_t width, int64_t next, double eps);

std::tuple<at::Tensor, at::Tensor> linear_residual_composite(const at::Tensor& x, const at::Tensor& value,
                                                             const at::Tensor& weight,
                                                             const std::optional<at::Tensor>& mask, int64_t feed,
                                                             double eps);

std::tuple<at::Tensor, at::Tensor> linear_residual_channel_mix_composite(
    const at::Tensor& x, const at::Tensor& branch, const at::Tensor& weight, const at::Tensor& mix_k,
    const at::Tensor& mix_r, const at::Tensor& key, const at::Tensor& receptance, const at::Tensor& value,
    const std::optional<at::Tensor>& norm_weight, const std::optional<at::Tensor>& norm_bias, int64_t height,
    int64_t width, int64_t feed, int64_t next, double eps);

std::tuple<at::Tensor, std::vector<at::Tensor>> residual_mix_composite(
    const at::Tensor& x, const at::Tensor& value, const std::optional<at::Tensor>& gate,
    const std::optional<at::Tensor>& norm_weight, const std::optional<at::Tensor>& norm_bias,
    const std::optional<at::Tensor>& scale, const std::optional<at::Tensor>& mask, at::TensorList mixes, int64_t height,
    int64_t width, double eps);

/// A residual sum as the results of a registered op, which must not share memory: an empty tensor for no feed, of the
/// kind of `branch`.
inline std::tuple<at::Tensor, at::Tensor> apart(const ResidualOutput& sum, const at::Tensor& branch) {
  if (sum.feed.is_same(sum.x)) return {sum.x, sum.x.clone()};
  return {sum.x, sum.feed.defined() ? sum.feed : at::empty({0}, branch.options())};
}

}  // namespace vrwkv::ops
