#include "ops/linear_residual_channel_mix.h"

#include <torch/library.h>

#include "ops/linear_composites.h"
#include "ops/linear_residual.h"
#include "ops/optional_tensor.h"
#include "ops/registered_operator.h"

namespace vrwkv::ops {

std::tuple<at::Tensor, at::Tensor> linear_residual_channel_mix_composite(
    const at::Tensor& x, const at::Tensor& branch, const at::Tensor& weight, const at::Tensor& mix_k,
    const at::Tensor& mix_r, const at::Tensor& key, const at::Tensor& receptance, const at::Tensor& value,
    const std::optional<at::Tensor>& norm_weight, const std::optional<at::Tensor>& norm_bias, int64_t height,
    int64_t width, int64_t feed, int64_t next, double eps) {
  TORCH_CHECK(feed == 1 || feed == 2, "linear_residual_channel_mix: feed must be 1 (cast) or 2 (standardized), got ",
              feed);
  TORCH_CHECK(next >= 0 && next <= 2,
              "linear_residual_channel_mix: next must be 0 (none), 1 (cast) or 2 (standardized), got ", next);
  const ResidualOutput sum = linear_residual(x, branch, weight, {}, static_cast<Feed>(feed), eps);
  const ChannelMixParameters parameters{.mix_k = mix_k,
                                        .mix_r = mix_r,
                                        .key = key,
                                        .receptance = receptance,
                                        .value = value,
                                        .norm_weight = norm_weight.value_or(at::Tensor()),
                                        .norm_bias = norm_bias.value_or(at::Tensor())};
  return apart(channel_mix(sum.x, sum.feed, parameters, height, width, static_cast<Feed>(next), eps), sum.feed);
}

ResidualOutput linear_residual_channel_mix(const at::Tensor& x, const at::Tensor& branch, const at::Tensor& weight,
                                           const ChannelMixParameters& parameters, int64_t height, int64_t width,
                                           Feed feed, Feed next, double eps) {
  const auto& op = registered_operator<linear_residual_channel_mix_composite>("vrwkv::linear_residual_channel_mix");
  const auto& p = parameters;
  const auto [sum, fed] =
      op.call(x, branch, weight, p.mix_k, p.mix_r, p.key, p.receptance, p.value, optional_tensor(p.norm_weight),
              optional_tensor(p.norm_bias), height, width, static_cast<int64_t>(feed), static_cast<int64_t>(next), eps);
  return {sum, next == Feed::none ? at::Tensor() : fed};
}

TORCH_LIBRARY_FRAGMENT(vrwkv, m) {
  m.def(
      "linear_residual_channel_mix(Tensor x, Tensor branch, Tensor weight, Tensor mix_k, Tensor mix_r, Tensor key, "
      "Tensor receptance, Tensor value, Tensor? norm_weight, Tensor? norm_bias, int height, int width, int feed, int "
      "next, float eps) -> (Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(vrwkv, CompositeImplicitAutograd, m) {
  m.impl("linear_residual_channel_mix", linear_residual_channel_mix_composite);
}

}  // namespace vrwkv::ops
