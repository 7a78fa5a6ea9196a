#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <algorithm>
#include <array>

#include "ops/autograd/residual_gradients.h"
#include "ops/optional_tensor.h"
#include "ops/residual_add_check.h"

namespace vrwkv::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using OptionalTensor = std::optional<at::Tensor>;

std::array<at::Tensor, kResidualInputs> call_backward(const at::Tensor& gy, const at::Tensor& gfeed,
                                                      const SavedResidual& saved,
                                                      const std::array<bool, kResidualInputs>& needed) {
  using Gradients = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor>;
  static const auto op =
      c10::Dispatcher::singleton()
          .findSchemaOrThrow("vrwkv::_residual_add_backward", "")
          .typed<Gradients(const OptionalTensor&, const OptionalTensor&, const OptionalTensor&, const OptionalTensor&,
                           const OptionalTensor&, const OptionalTensor&, const OptionalTensor&, const OptionalTensor&,
                           const OptionalTensor&, const OptionalTensor&, at::ScalarType, at::ScalarType, double,
                           std::array<bool, kResidualInputs>)>();
  const ResidualBranch& branch = saved.branch;
  const auto [gx, gvalue, ggate, gnorm_weight, gnorm_bias, gscale] =
      op.call(optional_tensor(gy), optional_tensor(gfeed), optional_tensor(branch.value), optional_tensor(branch.gate),
              optional_tensor(branch.norm_weight), optional_tensor(branch.norm_bias), optional_tensor(branch.scale),
              optional_tensor(branch.mask), optional_tensor(saved.fed), optional_tensor(saved.rstd), saved.x_dtype,
              saved.value_dtype, saved.eps, needed);
  return {gx, gvalue, ggate, gnorm_weight, gnorm_bias, gscale};
}

class ResidualAddFunction : public torch::autograd::Function<ResidualAddFunction> {
 public:
  static variable_list forward(AutogradContext* context, const OptionalTensor& x, const at::Tensor& value,
                               const OptionalTensor& gate, const OptionalTensor& norm_weight,
                               const OptionalTensor& norm_bias, const OptionalTensor& scale, const OptionalTensor& mask,
                               int64_t feed, double eps) {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    const ResidualBranch branch = residual_branch(value, gate, norm_weight, norm_bias, scale, mask);
    const auto [y, fed, rstd] = residual_sum(part(x), branch, static_cast<Feed>(feed), eps);
    // Neither x nor, where its gradient does not depend on it, the branch is kept.
    const bool keeps_value = branch.gate.defined() || branch.norm_weight.defined() || branch.scale.defined();
    const bool standardized = static_cast<Feed>(feed) == Feed::standardized;
    context->save_for_backward({keeps_value ? value : at::Tensor(), branch.gate, branch.norm_weight, branch.norm_bias,
                                branch.scale, branch.mask, standardized ? fed : at::Tensor(),
                                standardized ? rstd : at::Tensor()});
    context->saved_data["has_x"] = x.has_value();
    keep_sum(*context, y.scalar_type(), value.scalar_type(), eps, static_cast<Feed>(feed), fed);
    return {y, fed};
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list kept = context->get_saved_variables();
    const SavedResidual saved =
        kept_sum(*context, {kept[0], kept[1], kept[2], kept[3], kept[4], kept[5]}, kept[6], kept[7]);
    const ResidualBranch& branch = saved.branch;
    variable_list result(9);
    if (!gradients[0].defined() && !gradients[1].defined()) return result;

    // Only the tensors that were given have an edge.
    std::size_t edge = 0;
    const auto is_needed = [&](bool given) { return given && context->needs_input_grad(edge++); };
    std::array<bool, kResidualInputs> needed{};
    needed[kX] = is_needed(context->saved_data["has_x"].toBool());
    needed[kValue] = is_needed(true);
    needed[kGate] = is_needed(branch.gate.defined());
    needed[kNormWeight] = is_needed(branch.norm_weight.defined());
    needed[kNormBias] = is_needed(branch.norm_bias.defined());
    needed[kScale] = is_needed(branch.scale.defined());

    std::ranges::copy(residual_gradients(gradients[0], gradients[1], saved, needed), result.begin());
    return result;
  }
};

std::tuple<at::Tensor, at::Tensor> residual_add_autograd(const OptionalTensor& x, const at::Tensor& value,
                                                         const OptionalTensor& gate, const OptionalTensor& norm_weight,
                                                         const OptionalTensor& norm_bias, const OptionalTensor& scale,
                                                         const OptionalTensor& mask, int64_t feed, double eps) {
  const ResidualBranch branch = residual_branch(value, gate, norm_weight, norm_bias, scale, mask);
  check_residual_add(part(x), branch, feed);
  if (!residual_add_is_fused(part(x), branch)) return residual_add_composite(part(x), branch, feed, eps);
  const variable_list outputs =
      ResidualAddFunction::apply(x, value, gate, norm_weight, norm_bias, scale, mask, feed, eps);
  return {outputs[0], outputs[1]};
}

}  // namespace

std::tuple<at::Tensor, at::Tensor, at::Tensor> residual_sum(const at::Tensor& x, const ResidualBranch& branch,
                                                            Feed feed, double eps) {
  static const auto op =
      c10::Dispatcher::singleton()
          .findSchemaOrThrow("vrwkv::_residual_add_forward", "")
          .typed<std::tuple<at::Tensor, at::Tensor, at::Tensor>(
              const OptionalTensor&, const at::Tensor&, const OptionalTensor&, const OptionalTensor&,
              const OptionalTensor&, const OptionalTensor&, const OptionalTensor&, int64_t, double)>();
  return op.call(optional_tensor(x), branch.value, optional_tensor(branch.gate), optional_tensor(branch.norm_weight),
                 optional_tensor(branch.norm_bias), optional_tensor(branch.scale), optional_tensor(branch.mask),
                 static_cast<int64_t>(feed), eps);
}

void keep_sum(AutogradContext& context, at::ScalarType x_dtype, at::ScalarType value_dtype, double eps, Feed feed,
              const at::Tensor& fed) {
  context.saved_data["x_dtype"] = x_dtype;
  context.saved_data["value_dtype"] = value_dtype;
  context.saved_data["eps"] = eps;
  context.set_materialize_grads(false);
  if (feed == Feed::none) context.mark_non_differentiable({fed});
}

SavedResidual kept_sum(AutogradContext& context, const ResidualBranch& branch, const at::Tensor& fed,
                       const at::Tensor& rstd) {
  return {branch,
          fed,
          rstd,
          context.saved_data["x_dtype"].toScalarType(),
          context.saved_data["value_dtype"].toScalarType(),
          context.saved_data["eps"].toDouble()};
}

std::array<at::Tensor, kResidualInputs> residual_gradients(const at::Tensor& gy, const at::Tensor& gfeed,
                                                           const SavedResidual& saved,
                                                           std::array<bool, kResidualInputs> needed) {
  const bool unchanged = !saved.branch.value.defined() && !saved.branch.mask.defined();
  // Gradients that are the incoming one need no kernel.
  const bool shares_x = !gfeed.defined() && needed[kX];
  const bool shares_value =
      unchanged && needed[kValue] && (!gfeed.defined() || (needed[kX] && saved.x_dtype == saved.value_dtype));
  if (shares_x) needed[kX] = false;
  if (shares_value) needed[kValue] = false;
  std::array<at::Tensor, kResidualInputs> result;
  if (std::ranges::any_of(needed, [](bool one) { return one; })) result = call_backward(gy, gfeed, saved, needed);
  if (shares_x) result[kX] = gy;
  if (shares_value) result[kValue] = gfeed.defined() ? result[kX] : gy.to(saved.value_dtype);
  return result;
}

// Where there is no kernel the composite differentiates itself.
TORCH_LIBRARY_IMPL(vrwkv, AutogradCUDA, m) { m.impl("residual_add", residual_add_autograd); }

TORCH_LIBRARY_IMPL(vrwkv, Autograd, m) {
  // Differentiating the gradient raises an error instead of giving a silent zero.
  m.impl("_residual_add_backward", torch::autograd::autogradNotImplementedFallback());
}

}  // namespace vrwkv::ops
