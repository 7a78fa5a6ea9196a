#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

#include "ops/residual_add.h"

namespace vrwkv::ops {

/// Parameters of a channel mix; in x's dtype, or float32 under autocast or for bfloat16 feeds.
struct ChannelMixParameters {
  at::Tensor mix_k, mix_r;            ///< C elements each
  at::Tensor key;                     ///< [H, C]
  at::Tensor receptance;              ///< [C, C]
  at::Tensor value;                   ///< [C, H]
  at::Tensor norm_weight, norm_bias;  ///< [C] each, of what is mixed; both or none
};

/// A whole channel mix (arXiv 2403.02308, equation 8) and the residual sum behind it:
///
///   x_j = token_shift_mix(feed)_j,   z = sigmoid(x_r receptance^T) * (relu(x_k key^T)^2 value^T),   x + z
///
/// @param x      [B, height * width, C], as residual_add takes it.
/// @param feed   [B, height * width, C], what the branch reads, as token_shift_mix takes it.
/// @param next, eps, and the result: as `feed`, eps and the result of residual_add.
///
/// Differentiable. Where no gradient is asked for, float32 x and bfloat16 feeds with C = 192 and H a multiple of 64 on
/// a GPU of compute capability 9.0 are one kernel, in which neither mixes nor hidden channels reach memory. Registered
/// as vrwkv::channel_mix. Throws c10::Error that names argument, expected and actual.
ResidualOutput channel_mix(const at::Tensor& x, const at::Tensor& feed, const ChannelMixParameters& parameters,
                           int64_t height, int64_t width, Feed next, double eps);

}  // namespace vrwkv::ops
