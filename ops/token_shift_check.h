#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

// What token_shift_mix and token_shift_blend share.

namespace vrwkv::ops {

inline constexpr size_t kMaxMixes = 3;  ///< Of token_shift_mix.
inline constexpr size_t kBlends = 5;    ///< Of token_shift_blend.

/// TORCH_CHECKs of what every backend of token_shift_mix demands of its inputs.
void check_token_shift_mix(const at::Tensor& x, at::TensorList mixes, const std::optional<at::Tensor>& weight,
                           const std::optional<at::Tensor>& bias, int64_t height, int64_t width,
                           std::optional<int64_t> group);

/// The same for token_shift_blend.
void check_token_shift_blend(const at::Tensor& x, at::TensorList constants, const at::Tensor& shares,
                             const std::optional<at::Tensor>& weight, const std::optional<at::Tensor>& bias,
                             int64_t height, int64_t width, std::optional<int64_t> group);

/// How errors name the operator and its list of parameters.
struct TokenShiftNames {
  const char *op, *mixes;
};

/// What both demand of x, the grid and the parameters.
void check_token_shift(const TokenShiftNames& names, const at::Tensor& x, at::TensorList mixes,
                       const std::optional<at::Tensor>& weight, const std::optional<at::Tensor>& bias, int64_t height,
                       int64_t width, std::optional<int64_t> group);

/// n = x * weight + bias, and its shift, in the accumulation dtype: what the composed operators begin with.
struct ShiftedNorm {
  at::Tensor n, shifted;
};
ShiftedNorm shift_norm(const at::Tensor& x, const std::optional<at::Tensor>& weight,
                       const std::optional<at::Tensor>& bias, int64_t height, int64_t width,
                       std::optional<int64_t> group);

}  // namespace vrwkv::ops
