// Under autograd, on CUDA: the kernels of token_shift_linear and channel_mix. channel_mix gives no gradients; where one
// is asked for, its composition runs, which differentiates itself. token_shift_linear's mixes are computed again for
// the gradients: the kernel saves what that costs, and a network need not keep three mixes a block.

#include <ATen/core/LegacyTypeDispatch.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <algorithm>

#include "ops/backward_operators.h"
#include "ops/linear_composites.h"
#include "ops/optional_tensor.h"
#include "ops/registered_operator.h"
#include "ops/token_shift_linear.h"
#include "ops/token_shift_mix.h"
#include "ops/weight_casts.h"

namespace vrwkv::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

using OptionalTensor = std::optional<at::Tensor>;

/// token_shift_linear in one kernel, for weights in float32, which are what is differentiated.
class TokenShiftLinearFunction : public torch::autograd::Function<TokenShiftLinearFunction> {
 public:
  static variable_list forward(AutogradContext* context, const at::Tensor& x, at::TensorList mixes,
                               at::TensorList weights, const OptionalTensor& weight, const OptionalTensor& bias,
                               int64_t height, int64_t width) {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    variable_list saved{x, weight.value_or(at::Tensor()), bias.value_or(at::Tensor())};
    saved.insert(saved.end(), mixes.begin(), mixes.end());
    for (const at::Tensor& linear : weights) saved.push_back(cast_weight(linear, x.scalar_type()));
    context->save_for_backward(saved);
    context->saved_data["height"] = height;
    context->saved_data["width"] = width;
    return token_shift_linear(x, mixes, weights, weight, bias, height, width);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const size_t count = gradients.size();
    const at::Tensor& x = saved[0];
    const auto weight = optional_tensor(saved[1]), bias = optional_tensor(saved[2]);
    const variable_list mixes(saved.begin() + 3, saved.begin() + 3 + static_cast<int64_t>(count));
    const int64_t height = context->saved_data["height"].toInt(), width = context->saved_data["width"].toInt();

    const std::vector<at::Tensor> mixed = token_shift_mix(x, mixes, weight, bias, height, width);
    variable_list of_mixed, of_weights;
    for (size_t j = 0; j < count; ++j) {
      const bool of_weight = context->needs_input_grad(1 + count + j);
      at::Tensor of_mix, of_linear;
      if (gradients[j].defined()) {
        std::tie(of_mix, of_linear) = linear_gradients(gradients[j], mixed[j], saved[3 + count + j], {true, of_weight});
      }
      of_mixed.push_back(of_mix.defined() ? of_mix : at::zeros_like(x));
      of_weights.push_back(of_linear);
    }
    const auto [gx, sums] = token_shift_mix_gradients(x, mixes, weight, bias, of_mixed, height, width, std::nullopt);
    variable_list result{gx};
    const auto mix_count = static_cast<int64_t>(count);
    for (int64_t j = 0; j < mix_count; ++j) {
      result.push_back(parameter_gradient(sums, j, mixes[static_cast<size_t>(j)]));
    }
    result.insert(result.end(), of_weights.begin(), of_weights.end());
    result.push_back(parameter_gradient(sums, mix_count, saved[1]));
    result.push_back(parameter_gradient(sums, mix_count + 1, saved[2]));
    result.insert(result.end(), 2, at::Tensor());
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

}  // namespace

TORCH_LIBRARY_IMPL(vrwkv, AutogradCUDA, m) {
  m.impl("token_shift_linear", shift_linear);
  m.impl("channel_mix", channel_mix);
}

}  // namespace vrwkv::ops
