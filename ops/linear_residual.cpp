#include "ops/linear_residual.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

#include "ops/linear_composites.h"

namespace vrwkv::ops {

std::tuple<at::Tensor, at::Tensor> linear_residual_composite(const at::Tensor& x, const at::Tensor& value,
                                                             const at::Tensor& weight, int64_t feed, double eps) {
  TORCH_CHECK(feed >= 0 && feed <= 2, "linear_residual: feed must be 0 (none), 1 (cast) or 2 (standardized), got ",
              feed);
  TORCH_CHECK(weight.dim() == 2 && value.dim() == 3 && weight.size(1) == value.size(2),
              "linear_residual: weight must be [C, D] for values [B, T, D], got ", weight.sizes(), " for ",
              value.sizes());
  const ResidualOutput sum = residual_add(x, {.value = linear_product(value, weight)}, static_cast<Feed>(feed), eps);
  // A copy where both are the same: outputs of a registered op must not share memory.
  if (sum.feed.is_same(sum.x)) return {sum.x, sum.x.clone()};
  return {sum.x, sum.feed.defined() ? sum.feed : at::empty({0}, value.options())};
}

ResidualOutput linear_residual(const at::Tensor& x, const at::Tensor& value, const at::Tensor& weight, Feed feed,
                               double eps) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("vrwkv::linear_residual", "")
                             .typed<decltype(linear_residual_composite)>();
  const auto [sum, fed] = op.call(x, value, weight, static_cast<int64_t>(feed), eps);
  return {sum, feed == Feed::none ? at::Tensor() : fed};
}

TORCH_LIBRARY_FRAGMENT(vrwkv, m) {
  m.def("linear_residual(Tensor x, Tensor value, Tensor weight, int feed, float eps) -> (Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(vrwkv, CompositeImplicitAutograd, m) { m.impl("linear_residual", linear_residual_composite); }

}  // namespace vrwkv::ops
