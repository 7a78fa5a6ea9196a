#pragma once

#include <ATen/core/Tensor.h>

#include "ops/channel_mix.h"
#include "ops/residual_add.h"

namespace vrwkv::ops {

/// linear_residual() and the channel_mix() behind it:
///
///   y, f = linear_residual(x, branch, weight, {}, feed, eps)
///   channel_mix(y, f, parameters, height, width, next, eps)
///
/// @param x       [B, height * width, C], as residual_add takes it.
/// @param branch  [B, height * width, C], what the linear layer reads, as linear takes it.
/// @param weight  [C, C], as linear takes it.
/// @param feed    What the channel mix reads of y: cast or standardized.
/// @param next, eps, and the result: as `feed`, eps and the result of residual_add.
///
/// Differentiable. Where channel_mix and linear_residual are a kernel each and no gradient is asked for, y never
/// reaches memory: the second kernel makes it again of x and the product. Registered as
/// vrwkv::linear_residual_channel_mix. Throws c10::Error that names argument, expected and actual.
ResidualOutput linear_residual_channel_mix(const at::Tensor& x, const at::Tensor& branch, const at::Tensor& weight,
                                           const ChannelMixParameters& parameters, int64_t height, int64_t width,
                                           Feed feed, Feed next, double eps);

}  // namespace vrwkv::ops
