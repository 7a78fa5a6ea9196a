#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <tuple>
#include <vector>

// Operators with linear layers as compositions of operators that differentiate themselves, for every device, dtype and
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

}  // namespace vrwkv::ops
