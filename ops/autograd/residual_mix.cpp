// residual_mix under autograd, on CUDA: the kernels of residual_add and token_shift_mix, and one for the gradients of
// both; elsewhere the composition differentiates itself.

#include "ops/residual_mix.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/library.h>

#include "ops/autograd/residual_gradients.h"
#include "ops/backward_operators.h"
#include "ops/linear_composites.h"
#include "ops/optional_tensor.h"
#include "ops/registered_operator.h"
#include "ops/residual_add_check.h"
#include "ops/token_shift_mix.h"

namespace vrwkv::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using OptionalTensor = std::optional<at::Tensor>;

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> call_backward(
    const at::Tensor& gy, at::TensorList gradients, const at::Tensor& feed, const at::Tensor& rstd,
    const OptionalTensor& value, const OptionalTensor& gate, const OptionalTensor& mask, at::TensorList mixes,
    const OptionalTensor& weight, const OptionalTensor& bias, int64_t height, int64_t width) {
  return registered_operator<call_backward>("vrwkv::_residual_mix_backward")
      .call(gy, gradients, feed, rstd, value, gate, mask, mixes, weight, bias, height, width);
}

class ResidualMixFunction : public torch::autograd::Function<ResidualMixFunction> {
 public:
  static variable_list forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& value,
                               const OptionalTensor& gate, const OptionalTensor& mask, at::TensorList mixes,
                               const OptionalTensor& weight, const OptionalTensor& bias, int64_t height, int64_t width,
                               double eps) {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    const ResidualBranch branch = plain_branch(value, gate, mask);
    const auto [y, feed, rstd] = residual_sum(x, branch, Feed::standardized, eps);
    variable_list saved{feed,
                        rstd,
                        gate ? value : at::Tensor(),
                        branch.gate,
                        branch.mask,
                        weight.value_or(at::Tensor()),
                        bias.value_or(at::Tensor())};
    saved.insert(saved.end(), mixes.begin(), mixes.end());
    context->save_for_backward(saved);
    context->saved_data["height"] = height;
    context->saved_data["width"] = width;
    variable_list results{y};
    for (const at::Tensor& mixed : token_shift_mix(feed, mixes, weight, bias, height, width)) results.push_back(mixed);
    return results;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list all_saved = context->get_saved_variables();
    const at::TensorList saved = all_saved, mixes = saved.slice(7);
    const auto optional = [&](size_t i) { return optional_tensor(saved[i]); };
    const auto [gx, gvalue, ggate, sums] = call_backward(
        gradients[0], at::TensorList(gradients).slice(1), saved[0], saved[1], optional(2), optional(3), optional(4),
        mixes, optional(5), optional(6), context->saved_data["height"].toInt(), context->saved_data["width"].toInt());
    const auto count = static_cast<int64_t>(mixes.size());
    variable_list result{gx, gvalue, ggate, at::Tensor()};
    for (int64_t j = 0; j < count; ++j) {
      result.push_back(parameter_gradient(sums, j, mixes[static_cast<size_t>(j)]));
    }
    result.push_back(parameter_gradient(sums, count, saved[5]));
    result.push_back(parameter_gradient(sums, count + 1, saved[6]));
    result.insert(result.end(), 3, at::Tensor());
    return result;
  }
};

std::tuple<at::Tensor, std::vector<at::Tensor>> residual_mix_autograd(const at::Tensor& x, const at::Tensor& value,
                                                                      const OptionalTensor& gate,
                                                                      const OptionalTensor& mask, at::TensorList mixes,
                                                                      const OptionalTensor& weight,
                                                                      const OptionalTensor& bias, int64_t height,
                                                                      int64_t width, double eps) {
  check_residual_add(x, plain_branch(value, gate, mask), static_cast<int64_t>(Feed::standardized));
  if (mixes.size() < 2 || !residual_mix_is_joined(x, value)) {
    return residual_mix_composite(x, value, gate, mask, mixes, weight, bias, height, width, eps);
  }
  variable_list outputs = ResidualMixFunction::apply(x, value, gate, mask, mixes, weight, bias, height, width, eps);
  at::Tensor sum = outputs.front();
  outputs.erase(outputs.begin());
  return {sum, std::move(outputs)};
}

}  // namespace

TORCH_LIBRARY_IMPL(vrwkv, AutogradCUDA, m) { m.impl("residual_mix", residual_mix_autograd); }

TORCH_LIBRARY_IMPL(vrwkv, Autograd, m) {
  m.impl("_residual_mix_backward", torch::autograd::autogradNotImplementedFallback());
}

}  // namespace vrwkv::ops
