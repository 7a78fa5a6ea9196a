// Under autograd, on CUDA: the kernels of token_shift_linear and channel_mix. channel_mix gives no gradients; where one
// is asked for, its composition runs, which differentiates itself. token_shift_linear's gradients come from its input
// and parameters: a network need not keep three mixes a block.

#include <ATen/core/LegacyTypeDispatch.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <algorithm>
#include <array>
#include <tuple>

#include "ops/backward_operators.h"
#include "ops/linear_composites.h"
#include "ops/needs_gradient.h"
#include "ops/optional_tensor.h"
#include "ops/registered_operator.h"
#include "ops/side_by_side.h"
#include "ops/token_shift_linear.h"
#include "ops/weight_packs.h"

namespace vrwkv::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

using OptionalTensor = std::optional<at::Tensor>;

using ShiftLinearGradients = std::tuple<at::Tensor, std::vector<at::Tensor>, at::Tensor>;

ShiftLinearGradients shift_linear_gradients(const at::Tensor& x, at::TensorList mixes, at::TensorList weights,
                                            const OptionalTensor& weight, const OptionalTensor& bias,
                                            const OptionalTensor& packed, const at::Tensor& gradients, int64_t height,
                                            int64_t width, std::array<bool, 2> needed) {
  return registered_operator<shift_linear_gradients>("vrwkv::_token_shift_linear_backward")
      .call(x, mixes, weights, weight, bias, packed, gradients, height, width, needed);
}

/// token_shift_linear in one kernel, for weights in float32, which are what is differentiated.
class TokenShiftLinearFunction : public torch::autograd::Function<TokenShiftLinearFunction> {
 public:
  static variable_list forward(AutogradContext* context, const at::Tensor& x, at::TensorList mixes,
                               at::TensorList weights, const OptionalTensor& weight, const OptionalTensor& bias,
                               int64_t height, int64_t width) {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    // What is packed since the step's start: the backward pass runs in another thread, which keeps none.
    variable_list saved{kept_pack(kShiftLinearGradientOrder, weights), x, weight.value_or(at::Tensor()),
                        bias.value_or(at::Tensor())};
    saved.insert(saved.end(), mixes.begin(), mixes.end());
    saved.insert(saved.end(), weights.begin(), weights.end());
    context->save_for_backward(saved);
    context->saved_data["height"] = height;
    context->saved_data["width"] = width;
    return token_shift_linear(x, mixes, weights, weight, bias, height, width);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list all_saved = context->get_saved_variables();
    const at::TensorList saved = at::TensorList(all_saved).slice(1);
    const size_t count = gradients.size();
    const at::Tensor& x = saved[0];
    const at::TensorList mixes = saved.slice(3, count), weights = saved.slice(3 + count);
    bool of_parameters = false;
    const size_t inputs = saved.size() - (saved[1].defined() ? 0 : 2);
    for (size_t i = 1; i < inputs; ++i) of_parameters |= context->needs_input_grad(i);
    const auto [gx, gweights, sums] = shift_linear_gradients(
        x, mixes, weights, optional_tensor(saved[1]), optional_tensor(saved[2]), optional_tensor(all_saved[0]),
        side_by_side(gradients, x), context->saved_data["height"].toInt(), context->saved_data["width"].toInt(),
        {context->needs_input_grad(0), of_parameters});
    variable_list result{gx};
    result.resize(saved.size() + 2);
    if (of_parameters) {
      for (size_t j = 0; j < count; ++j) {
        result[1 + j] = parameter_gradient(sums, static_cast<int64_t>(j), mixes[j]);
        result[1 + count + j] = gweights[j];
      }
      for (size_t j = 0; j < 2; ++j) {
        result[1 + 2 * count + j] = parameter_gradient(sums, static_cast<int64_t>(count + j), saved[1 + j]);
      }
    }
    return result;
  }
};

bool is_fused(const at::Tensor& x, at::TensorList mixes, at::TensorList weights) {
  return registered_operator<is_fused>("vrwkv::_token_shift_linear_is_fused").call(x, mixes, weights);
}

std::vector<at::Tensor> shift_linear(const at::Tensor& x, at::TensorList mixes, at::TensorList weights,
                                     const OptionalTensor& weight, const OptionalTensor& bias, int64_t height,
                                     int64_t width) {
  if (!needs_gradient({x, weight.value_or(at::Tensor()), bias.value_or(at::Tensor())}, mixes, weights)) {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    return token_shift_linear(x, mixes, weights, weight, bias, height, width);
  }
  const bool wide = std::ranges::all_of(weights, [](const auto& w) { return w.scalar_type() == at::kFloat; });
  if (!wide || !is_fused(x, mixes, weights)) {
    return token_shift_linear_composite(x, mixes, weights, weight, bias, height, width);
  }
  return TokenShiftLinearFunction::apply(x, mixes, weights, weight, bias, height, width);
}

std::tuple<at::Tensor, at::Tensor> channel_mix(const at::Tensor& x, const at::Tensor& feed, const at::Tensor& mix_k,
                                               const at::Tensor& mix_r, const at::Tensor& key,
                                               const at::Tensor& receptance, const at::Tensor& value,
                                               const std::optional<at::Tensor>& norm_weight,
                                               const std::optional<at::Tensor>& norm_bias, int64_t height,
                                               int64_t width, int64_t next, double eps) {
  if (needs_gradient({x, feed, mix_k, mix_r, key, receptance, value, norm_weight.value_or(at::Tensor()),
                      norm_bias.value_or(at::Tensor())})) {
    return channel_mix_composite(x, feed, mix_k, mix_r, key, receptance, value, norm_weight, norm_bias, height, width,
                                 next, eps);
  }
  const at::AutoDispatchBelowADInplaceOrView below_autograd;
  return registered_operator<channel_mix_composite>("vrwkv::channel_mix")
      .call(x, feed, mix_k, mix_r, key, receptance, value, norm_weight, norm_bias, height, width, next, eps);
}

std::tuple<at::Tensor, at::Tensor> linear_residual_channel_mix(const at::Tensor& x, const at::Tensor& branch,
                                                               const at::Tensor& weight, const at::Tensor& mix_k,
                                                               const at::Tensor& mix_r, const at::Tensor& key,
                                                               const at::Tensor& receptance, const at::Tensor& value,
                                                               const OptionalTensor& norm_weight,
                                                               const OptionalTensor& norm_bias, int64_t height,
                                                               int64_t width, int64_t feed, int64_t next, double eps) {
  if (needs_gradient({x, branch, weight, mix_k, mix_r, key, receptance, value, norm_weight.value_or(at::Tensor()),
                      norm_bias.value_or(at::Tensor())})) {
    return linear_residual_channel_mix_composite(x, branch, weight, mix_k, mix_r, key, receptance, value, norm_weight,
                                                 norm_bias, height, width, feed, next, eps);
  }
  const at::AutoDispatchBelowADInplaceOrView below_autograd;
  return registered_operator<linear_residual_channel_mix_composite>("vrwkv::linear_residual_channel_mix")
      .call(x, branch, weight, mix_k, mix_r, key, receptance, value, norm_weight, norm_bias, height, width, feed, next,
            eps);
}

}  // namespace

TORCH_LIBRARY_IMPL(vrwkv, AutogradCUDA, m) {
  m.impl("token_shift_linear", shift_linear);
  m.impl("channel_mix", channel_mix);
  m.impl("linear_residual_channel_mix", linear_residual_channel_mix);
}
TORCH_LIBRARY_IMPL(vrwkv, Autograd, m) {
  m.impl("_token_shift_linear_backward", torch::autograd::autogradNotImplementedFallback());
}

}  // namespace vrwkv::ops
