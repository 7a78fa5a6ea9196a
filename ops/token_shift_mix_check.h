#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

namespace vrwkv::ops {

inline constexpr size_t kMaxMixes = 3;

/// TORCH_CHECKs of what every backend of token_shift_mix demands of its inputs.
void check_token_shift_mix(const at::Tensor& x, at::TensorList mixes, const std::optional<at::Tensor>& weight,
                           const std::optional<at::Tensor>& bias, int64_t height, int64_t width);

}  // namespace vrwkv::ops
