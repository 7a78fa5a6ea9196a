// linear_residual under autograd, on CUDA: its kernel, and the gradients of residual_add and linear one after the
// other; elsewhere the composition differentiates itself.

#include "ops/linear_residual.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <torch/library.h>

#include "ops/autograd/residual_gradients.h"
#include "ops/backward_operators.h"
#include "ops/linear_composites.h"
#include "ops/needs_gradient.h"
#include "ops/products.h"
#include "ops/registered_operator.h"
#include "ops/weight_casts.h"

namespace vrwkv::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using OptionalTensor = std::optional<at::Tensor>;

bool is_fused(const at::Tensor& x, const at::Tensor& value, const at::Tensor& weight) {
  return registered_operator<is_fused>("vrwkv::_linear_residual_is_fused").call(x, value, weight);
}

/// y, feed and the feed's 1 / sqrt(var + eps).
std::tuple<at::Tensor, at::Tensor, at::Tensor> call_forward(const at::Tensor& x, const at::Tensor& value,
                                                            const at::Tensor& weight, const OptionalTensor& mask,
                                                            int64_t feed, double eps) {
  return registered_operator<call_forward>("vrwkv::_linear_residual_forward").call(x, value, weight, mask, feed, eps);
}

/// For a weight in float32, which is what is differentiated.
class LinearResidualFunction : public torch::autograd::Function<LinearResidualFunction> {
 public:
  static variable_list forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& value,
                               const at::Tensor& weight, const OptionalTensor& mask, int64_t feed, double eps) {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    const auto [y, fed, rstd] = call_forward(x, value, weight, mask, feed, eps);
    const bool standardized = static_cast<Feed>(feed) == Feed::standardized;
    context->save_for_backward({weight.requires_grad() ? value : at::Tensor(),
                                value.requires_grad() ? cast_weight(weight, value.scalar_type()) : at::Tensor(),
                                mask.value_or(at::Tensor()), standardized ? fed : at::Tensor(),
                                standardized ? rstd : at::Tensor()});
    keep_sum(*context, x.scalar_type(), value.scalar_type(), eps, static_cast<Feed>(feed), fed);
    return {y, fed};
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list kept = context->get_saved_variables();
    const SavedResidual saved = kept_sum(*context, {.value = {}, .mask = kept[2]}, kept[3], kept[4]);
    variable_list result(6);
    if (!gradients[0].defined() && !gradients[1].defined()) return result;
    const bool of_value = context->needs_input_grad(1), of_weight = context->needs_input_grad(2);
    std::array<bool, kResidualInputs> needed{};
    needed[kX] = context->needs_input_grad(0);
    needed[kValue] = of_value || of_weight;
    const auto of_sum = residual_gradients(gradients[0], gradients[1], saved, needed);
    result[0] = of_sum[kX];
    if (of_value) result[1] = product(of_sum[kValue], kept[1], /*transposed=*/true);
    if (of_weight) result[2] = linear_weight_gradients(of_sum[kValue], kept[0])[0];
    return result;
  }
};

std::tuple<at::Tensor, at::Tensor> linear_residual_autograd(const at::Tensor& x, const at::Tensor& value,
                                                            const at::Tensor& weight, const OptionalTensor& mask,
                                                            int64_t feed, double eps) {
  const bool differentiable = needs_gradient({x, value, weight});
  if (!is_fused(x, value, weight) || (differentiable && weight.scalar_type() != at::kFloat)) {
    return linear_residual_composite(x, value, weight, mask, feed, eps);
  }
  if (!differentiable) {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    return registered_operator<linear_residual_composite>("vrwkv::linear_residual")
        .call(x, value, weight, mask, feed, eps);
  }
  const variable_list outputs = LinearResidualFunction::apply(x, value, weight, mask, feed, eps);
  return {outputs[0], outputs[1]};
}

}  // namespace

TORCH_LIBRARY_IMPL(vrwkv, AutogradCUDA, m) { m.impl("linear_residual", linear_residual_autograd); }

}  // namespace vrwkv::ops
