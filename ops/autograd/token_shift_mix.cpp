#include "ops/token_shift_mix.h"

#include <ATen/Functions.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "ops/optional_tensor.h"

namespace vrwkv::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// For CUDA, whose kernels compute both passes; elsewhere the composition differentiates itself.
class TokenShiftMixFunction : public torch::autograd::Function<TokenShiftMixFunction> {
 public:
  static variable_list forward(AutogradContext* context, const at::Tensor& x, at::TensorList mixes,
                               const std::optional<at::Tensor>& weight, const std::optional<at::Tensor>& bias,
                               int64_t height, int64_t width) {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    variable_list saved{x, weight.value_or(at::Tensor()), bias.value_or(at::Tensor())};
    saved.insert(saved.end(), mixes.begin(), mixes.end());
    context->save_for_backward(saved);
    context->saved_data["height"] = height;
    context->saved_data["width"] = width;
    return token_shift_mix(x, mixes, weight, bias, height, width);
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    static const auto op = c10::Dispatcher::singleton()
                               .findSchemaOrThrow("vrwkv::_token_shift_mix_backward", "")
                               .typed<std::tuple<at::Tensor, at::Tensor>(
                                   const at::Tensor&, at::TensorList, const std::optional<at::Tensor>&,
                                   const std::optional<at::Tensor>&, at::TensorList, int64_t, int64_t)>();
    const variable_list saved = context->get_saved_variables();
    const at::Tensor& x = saved[0];
    const variable_list mixes(saved.begin() + 3, saved.end());
    for (at::Tensor& gradient : gradients) {
      if (!gradient.defined()) gradient = at::zeros_like(x);
    }
    const auto [gx, sums] = op.call(x, mixes, optional_tensor(saved[1]), optional_tensor(saved[2]), gradients,
                                    context->saved_data["height"].toInt(), context->saved_data["width"].toInt());
    const auto parameter_gradient = [&sums = sums](int64_t row, const at::Tensor& parameter) {
      return parameter.defined() ? sums[row].view(parameter.sizes()).to(parameter.scalar_type()) : at::Tensor();
    };
    const auto count = static_cast<int64_t>(mixes.size());
    variable_list result{gx};
    for (int64_t i = 0; i < count; ++i) result.push_back(parameter_gradient(i, mixes[static_cast<size_t>(i)]));
    result.push_back(parameter_gradient(count, saved[1]));
    result.push_back(parameter_gradient(count + 1, saved[2]));
    result.insert(result.end(), 2, at::Tensor());
    return result;
  }
};

std::vector<at::Tensor> token_shift_mix_autograd(const at::Tensor& x, at::TensorList mixes,
                                                 const std::optional<at::Tensor>& weight,
                                                 const std::optional<at::Tensor>& bias, int64_t height, int64_t width) {
  return TokenShiftMixFunction::apply(x, mixes, weight, bias, height, width);
}

}  // namespace

TORCH_LIBRARY_IMPL(vrwkv, AutogradCUDA, m) { m.impl("token_shift_mix", token_shift_mix_autograd); }
TORCH_LIBRARY_IMPL(vrwkv, Autograd, m) {
  m.impl("_token_shift_mix_backward", torch::autograd::autogradNotImplementedFallback());
}

}  // namespace vrwkv::ops
