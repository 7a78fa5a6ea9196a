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
using Gradients = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor>;

Gradients call_backward(const at::Tensor& gy, at::TensorList gradients, const at::Tensor& feed, const at::Tensor& value,
                        const OptionalTensor& gate, const at::Tensor& norm_weight, const at::Tensor& norm_bias,
                        const OptionalTensor& scale, const OptionalTensor& mask, at::TensorList mixes, int64_t height,
                        int64_t width, double eps) {
  return registered_operator<call_backward>("vrwkv::_residual_mix_backward")
      .call(gy, gradients, feed, value, gate, norm_weight, norm_bias, scale, mask, mixes, height, width, eps);
}

class ResidualMixFunction : public torch::autograd::Function<ResidualMixFunction> {
 public:
  static variable_list forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& value,
                               const OptionalTensor& gate, const at::Tensor& norm_weight, const at::Tensor& norm_bias,
                               const OptionalTensor& scale, const OptionalTensor& mask, at::TensorList mixes,
                               int64_t height, int64_t width, double eps) {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    const ResidualBranch branch = residual_branch(value, gate, norm_weight, norm_bias, scale, mask);
    const auto [y, feed, rstd] = residual_sum(x, branch, Feed::cast, eps);
    variable_list saved{feed, value, branch.gate, norm_weight, norm_bias, branch.scale, branch.mask};
    saved.insert(saved.end(), mixes.begin(), mixes.end());
    context->save_for_backward(saved);
    context->saved_data["height"] = height;
    context->saved_data["width"] = width;
    context->saved_data["eps"] = eps;
    variable_list results{y};
    for (const at::Tensor& mixed : token_shift_mix(feed, mixes, std::nullopt, std::nullopt, height, width)) {
      results.push_back(mixed);
    }
    return results;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list all_saved = context->get_saved_variables();
    const at::TensorList saved = all_saved, mixes = saved.slice(7);
    const auto [gx, gvalue, ggate, gnorm_weight, gnorm_bias, gscale, gmixes] = call_backward(
        gradients[0], at::TensorList(gradients).slice(1), saved[0], saved[1], optional_tensor(saved[2]), saved[3],
        saved[4], optional_tensor(saved[5]), optional_tensor(saved[6]), mixes, context->saved_data["height"].toInt(),
        context->saved_data["width"].toInt(), context->saved_data["eps"].toDouble());
    variable_list result{gx, gvalue, ggate, gnorm_weight, gnorm_bias, gscale, at::Tensor()};
    for (size_t j = 0; j < mixes.size(); ++j) {
      result.push_back(parameter_gradient(gmixes, static_cast<int64_t>(j), mixes[j]));
    }
    result.insert(result.end(), 3, at::Tensor());
    return result;
  }
};

std::tuple<at::Tensor, std::vector<at::Tensor>> residual_mix_autograd(
    const at::Tensor& x, const at::Tensor& value, const OptionalTensor& gate, const OptionalTensor& norm_weight,
    const OptionalTensor& norm_bias, const OptionalTensor& scale, const OptionalTensor& mask, at::TensorList mixes,
    int64_t height, int64_t width, double eps) {
  check_residual_add(x, residual_branch(value, gate, norm_weight, norm_bias, scale, mask),
                     static_cast<int64_t>(Feed::cast));
  if (!norm_weight || mixes.size() < 2 || !residual_mix_is_joined(x, value)) {
    return residual_mix_composite(x, value, gate, norm_weight, norm_bias, scale, mask, mixes, height, width, eps);
  }
  variable_list outputs =
      ResidualMixFunction::apply(x, value, gate, *norm_weight, *norm_bias, scale, mask, mixes, height, width, eps);
  const at::Tensor sum = outputs.front();
  outputs.erase(outputs.begin());
  return {sum, std::move(outputs)};
}

}  // namespace

TORCH_LIBRARY_IMPL(vrwkv, AutogradCUDA, m) { m.impl("residual_mix", residual_mix_autograd); }

TORCH_LIBRARY_IMPL(vrwkv, Autograd, m) {
  m.impl("_residual_mix_backward", torch::autograd::autogradNotImplementedFallback());
}

}  // namespace vrwkv::ops
