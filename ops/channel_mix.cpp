#include "ops/channel_mix.h"

#include <ATen/Functions.h>
#include <torch/library.h>

#include "ops/linear.h"
#include "ops/linear_composites.h"
#include "ops/optional_tensor.h"
#include "ops/registered_operator.h"
#include "ops/squared_relu_mlp.h"
#include "ops/token_shift_mix.h"

namespace vrwkv::ops {
namespace {

void check_matrix(const char* name, const at::Tensor& matrix, int64_t rows, int64_t columns) {
  TORCH_CHECK(matrix.dim() == 2 && matrix.size(0) == rows && matrix.size(1) == columns, "channel_mix: ", name,
              " must be [", rows, ", ", columns, "], got ", matrix.sizes());
}

}  // namespace

std::tuple<at::Tensor, at::Tensor> channel_mix_composite(const at::Tensor& x, const at::Tensor& feed,
                                                         const at::Tensor& mix_k, const at::Tensor& mix_r,
                                                         const at::Tensor& key, const at::Tensor& receptance,
                                                         const at::Tensor& value,
                                                         const std::optional<at::Tensor>& norm_weight,
                                                         const std::optional<at::Tensor>& norm_bias, int64_t height,
                                                         int64_t width, int64_t next, double eps) {
  TORCH_CHECK(feed.dim() == 3, "channel_mix: feed must be [B, T, C], got ", feed.sizes());
  TORCH_CHECK(next >= 0 && next <= 2, "channel_mix: next must be 0 (none), 1 (cast) or 2 (standardized), got ", next);
  const int64_t channels = feed.size(2), hidden = key.dim() == 2 ? key.size(0) : 0;
  check_matrix("key", key, hidden, channels);
  check_matrix("receptance", receptance, channels, channels);
  check_matrix("value", value, channels, hidden);
  const std::vector<at::Tensor> mixed = token_shift_mix(feed, {mix_k, mix_r}, norm_weight, norm_bias, height, width);
  const ResidualBranch branch{.value = squared_relu_mlp(mixed[0], key, value),
                              .gate = ops::linear(mixed[1], receptance)};
  return apart(residual_add(x, branch, static_cast<Feed>(next), eps), feed);
}

ResidualOutput channel_mix(const at::Tensor& x, const at::Tensor& feed, const ChannelMixParameters& parameters,
                           int64_t height, int64_t width, Feed next, double eps) {
  const auto& op = registered_operator<channel_mix_composite>("vrwkv::channel_mix");
  const auto& p = parameters;
  const auto [sum, fed] =
      op.call(x, feed, p.mix_k, p.mix_r, p.key, p.receptance, p.value, optional_tensor(p.norm_weight),
              optional_tensor(p.norm_bias), height, width, static_cast<int64_t>(next), eps);
  return {sum, next == Feed::none ? at::Tensor() : fed};
}

TORCH_LIBRARY_FRAGMENT(vrwkv, m) {
  m.def(
      "channel_mix(Tensor x, Tensor feed, Tensor mix_k, Tensor mix_r, Tensor key, Tensor receptance, Tensor value, "
      "Tensor? norm_weight, Tensor? norm_bias, int height, int width, int next, float eps) -> (Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(vrwkv, CompositeImplicitAutograd, m) { m.impl("channel_mix", channel_mix_composite); }

}  // namespace vrwkv::ops
