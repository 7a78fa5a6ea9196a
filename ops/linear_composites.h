#pragma once

#include <ATen/ATen.h>

#include <initializer_list>
#include <optional>
#include <tuple>
#include <vector>

// What the backends of the operators with linear layers share: token_shift_linear, channel_mix, squared_relu_mlp. The
// compositions are of operators that differentiate themselves, for every device, dtype and size.

namespace vrwkv::ops {

/// Whether results must be differentiable.
inline bool needs_gradient(std::initializer_list<at::Tensor> tensors, at::TensorList more = {},
                           at::TensorList rest = {}) {
  if (!c10::GradMode::is_enabled()) return false;
  const auto any = [](const auto& list) {
    for (const at::Tensor& tensor : list) {
      if (tensor.defined() && tensor.requires_grad()) return true;
    }
    return false;
  };
  return any(tensors) || any(more) || any(rest);
}

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
