#include "ops/token_shift_mix.h"

#include <ATen/Functions.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "ops/backward_operators.h"
#include "ops/optional_tensor.h"
#include "ops/registered_operator.h"
#include "ops/token_shift_blend.h"

namespace vrwkv::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

using OptionalTensor = std::optional<at::Tensor>;

std::tuple<at::Tensor, at::Tensor, at::Tensor> blend_backward(const at::Tensor& x, at::TensorList constants,
                                                              const at::Tensor& shares, const OptionalTensor& weight,
                                                              const OptionalTensor& bias, at::TensorList gradients,
                                                              int64_t height, int64_t width,
                                                              std::optional<int64_t> group) {
  return registered_operator<blend_backward>("vrwkv::_token_shift_blend_backward")
      .call(x, constants, shares, weight, bias, gradients, height, width, group);
}

/// token_shift_mix, or with shares token_shift_blend, for CUDA, whose kernels compute both passes; elsewhere the
/// compositions differentiate themselves.
class TokenShiftFunction : public torch::autograd::Function<TokenShiftFunction> {
 public:
  static variable_list forward(AutogradContext* context, const at::Tensor& x, at::TensorList mixes,
                               const OptionalTensor& shares, const OptionalTensor& weight, const OptionalTensor& bias,
                               int64_t height, int64_t width, std::optional<int64_t> group) {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    variable_list saved{x, shares.value_or(at::Tensor()), weight.value_or(at::Tensor()), bias.value_or(at::Tensor())};
    saved.insert(saved.end(), mixes.begin(), mixes.end());
    context->save_for_backward(saved);
    context->saved_data["height"] = height;
    context->saved_data["width"] = width;
    context->saved_data["group"] = group;
    return shares ? token_shift_blend(x, mixes, *shares, weight, bias, height, width, group)
                  : token_shift_mix(x, mixes, weight, bias, height, width, group);
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &shares = saved[1], &weight = saved[2], &bias = saved[3];
    const variable_list mixes(saved.begin() + 4, saved.end());
    for (at::Tensor& gradient : gradients) {
      if (!gradient.defined()) gradient = at::zeros_like(x);
    }
    const int64_t height = context->saved_data["height"].toInt(), width = context->saved_data["width"].toInt();
    const auto group = context->saved_data["group"].toOptional<int64_t>();
    const auto optional_weight = optional_tensor(weight), optional_bias = optional_tensor(bias);
    at::Tensor gx, gshares, sums;
    if (shares.defined()) {
      std::tie(gx, gshares, sums) =
          blend_backward(x, mixes, shares, optional_weight, optional_bias, gradients, height, width, group);
    } else {
      std::tie(gx, sums) =
          token_shift_mix_gradients(x, mixes, optional_weight, optional_bias, gradients, height, width, group);
    }
    const auto count = static_cast<int64_t>(mixes.size());
    variable_list result{gx};
    for (int64_t i = 0; i < count; ++i) result.push_back(parameter_gradient(sums, i, mixes[static_cast<size_t>(i)]));
    result.push_back(gshares);
    result.push_back(parameter_gradient(sums, count, weight));
    result.push_back(parameter_gradient(sums, count + 1, bias));
    result.insert(result.end(), 3, at::Tensor());
    return result;
  }
};

std::vector<at::Tensor> mix(const at::Tensor& x, at::TensorList mixes, const OptionalTensor& weight,
                            const OptionalTensor& bias, int64_t height, int64_t width, std::optional<int64_t> group) {
  return TokenShiftFunction::apply(x, mixes, OptionalTensor(), weight, bias, height, width, group);
}

std::vector<at::Tensor> blend(const at::Tensor& x, at::TensorList constants, const at::Tensor& shares,
                              const OptionalTensor& weight, const OptionalTensor& bias, int64_t height, int64_t width,
                              std::optional<int64_t> group) {
  return TokenShiftFunction::apply(x, constants, OptionalTensor(shares), weight, bias, height, width, group);
}

}  // namespace

std::tuple<at::Tensor, at::Tensor> token_shift_mix_gradients(const at::Tensor& x, at::TensorList mixes,
                                                             const OptionalTensor& weight, const OptionalTensor& bias,
                                                             at::TensorList gradients, int64_t height, int64_t width,
                                                             std::optional<int64_t> group) {
  return registered_operator<token_shift_mix_gradients>("vrwkv::_token_shift_mix_backward")
      .call(x, mixes, weight, bias, gradients, height, width, group);
}

at::Tensor parameter_gradient(const at::Tensor& sums, int64_t row, const at::Tensor& parameter) {
  return parameter.defined() ? sums[row].view(parameter.sizes()).to(parameter.scalar_type()) : at::Tensor();
}

TORCH_LIBRARY_IMPL(vrwkv, AutogradCUDA, m) {
  m.impl("token_shift_mix", mix);
  m.impl("token_shift_blend", blend);
}
TORCH_LIBRARY_IMPL(vrwkv, Autograd, m) {
  m.impl("_token_shift_mix_backward", torch::autograd::autogradNotImplementedFallback());
  m.impl("_token_shift_blend_backward", torch::autograd::autogradNotImplementedFallback());
}

}  // namespace vrwkv::ops
