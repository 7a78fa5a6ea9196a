#include "ops/linear_residual.h"

#include <ATen/Functions.h>
#include <torch/library.h>

#include "ops/linear.h"
#include "ops/linear_composites.h"
#include "ops/optional_tensor.h"
#include "ops/registered_operator.h"

namespace vrwkv::ops {

std::tuple<at::Tensor, at::Tensor> linear_residual_composite(const at::Tensor& x, const at::Tensor& value,
                                                             const at::Tensor& weight,
                                                             const std::optional<at::Tensor>& mask, int64_t feed,
                                                             double eps) {
  TORCH_CHECK(value.dim() == 3, "linear_residual: value must be [B, T, C], got ", value.sizes());
  TORCH_CHECK(weight.dim() == 2 && weight.size(1) == value.size(2),
              "linear_residual: weight must be [D, C], C = ", value.size(2), ", got ", weight.sizes());
  TORCH_CHECK(feed >= 0 && feed <= 2, "linear_residual: feed must be 0 (none), 1 (cast) or 2 (standardized), got ",
              feed);
  const ResidualBranch branch{.value = ops::linear(value, weight), .mask = mask.value_or(at::Tensor())};
  return apart(residual_add(x, branch, static_cast<Feed>(feed), eps), branch.value);
}

ResidualOutput linear_residual(const at::Tensor& x, const at::Tensor& value, const at::Tensor& weight,
                               const at::Tensor& mask, Feed feed, double eps) {
  const auto& op = registered_operator<linear_residual_composite>("vrwkv::linear_residual");
  const auto [sum, fed] = op.call(x, value, weight, optional_tensor(mask), static_cast<int64_t>(feed), eps);
  return {sum, feed == Feed::none ? at::Tensor() : fed};
}

TORCH_LIBRARY_FRAGMENT(vrwkv, m) {
  m.def(
      "linear_residual(Tensor x, Tensor value, Tensor weight, Tensor? mask, int feed, float eps) -> (Tensor, Tensor)");
  // The CUDA kernel, and whether there is one for given arguments. rstd is [B * T], 1 / sqrt(var + eps) of the
  // standardized feed.
  m.def(
      "_linear_residual_forward(Tensor x, Tensor value, Tensor weight, Tensor? mask, int feed, float eps) -> "
      "(Tensor y, Tensor fed, Tensor rstd)");
  m.def("_linear_residual_is_fused(Tensor x, Tensor value, Tensor weight) -> bool");
}

TORCH_LIBRARY_IMPL(vrwkv, CompositeImplicitAutograd, m) { m.impl("linear_residual", linear_residual_composite); }

}  // namespace vrwkv::ops
