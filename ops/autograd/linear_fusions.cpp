// Under autograd, on CUDA: the kernels of token_shift_linear, channel_mix and linear_residual_channel_mix. The last two
// give no gradients. token_shift_linear's come from its input and parameters: a network need not keep three mixes a
// block.

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

bool asks_for_gradient(const at::Tensor& argument) { return needs_gradient({argument}); }
bool asks_for_gradient(const OptionalTensor& argument) { return argument && needs_gradient({*argument}); }
bool asks_for_gradient(double /*number*/) { return false; }

/// An operator of this name whose kernel gives no gradients. Where one is asked for, its composition runs, which
/// differentiates itself.
template <auto composite, const char* name>
struct WithoutGradients;

template <typename Result, typename... Arguments, Result (*composite)(Arguments...), const char* name>
struct WithoutGradients<composite, name> {
  static Result call(Arguments... arguments) {
    if ((asks_for_gradient(arguments) || ...)) return composite(arguments...);
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    return registered_operator<composite>(name).call(arguments...);
  }
};

constexpr char kChannelMix[] = "vrwkv::channel_mix";
constexpr char kLinearResidualChannelMix[] = "vrwkv::linear_residual_channel_mix";

}  // namespace

TORCH_LIBRARY_IMPL(vrwkv, AutogradCUDA, m) {
  m.impl("token_shift_linear", shift_linear);
  m.impl("channel_mix", WithoutGradients<channel_mix_composite, kChannelMix>::call);
  m.impl("linear_residual_channel_mix",
         WithoutGradients<linear_residual_channel_mix_composite, kLinearResidualChannelMix>::call);
}
TORCH_LIBRARY_IMPL(vrwkv, Autograd, m) {
  m.impl("_token_shift_linear_backward", torch::autograd::autogradNotImplementedFallback());
}

}  // namespace vrwkv::ops
