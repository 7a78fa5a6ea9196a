#include "ops/squared_relu_mlp.h"

#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <algorithm>

#include "ops/needs_gradient.h"
#include "ops/optional_tensor.h"
#include "ops/squared_relu_mlp_kernels.h"
#include "ops/weight_casts.h"
#include "ops/weight_packs.h"

namespace vrwkv::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// For the kernels; elsewhere the composition differentiates itself.
class SquaredReluMlpFunction : public torch::autograd::Function<SquaredReluMlpFunction> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& key,
                            const at::Tensor& value) {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    const auto [y, hidden] = squared_relu_mlp_forward(x, key, value);
    // Not the weights but what was made of them since the step's start: the backward pass runs in another thread, which
    // keeps none. A packed value is all that is read of it.
    const at::Tensor packed = kept_pack(kHiddenGradientOrder, value);
    context->save_for_backward({x, hidden, cast_weight(key, at::kBFloat16),
                                packed.defined() ? value : cast_weight(value, at::kBFloat16), packed});
    return y;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const std::array<bool, 3> needed{context->needs_input_grad(0), context->needs_input_grad(1),
                                     context->needs_input_grad(2)};
    if (std::ranges::none_of(needed, [](bool one) { return one; })) return variable_list(3);
    const variable_list saved = context->get_saved_variables();
    const auto [gx, gkey, gvalue] = squared_relu_mlp_backward(gradients[0], saved[0], saved[1], saved[2], saved[3],
                                                              optional_tensor(saved[4]), needed);
    return {gx, gkey, gvalue};
  }
};

at::Tensor squared_relu_mlp_autograd(const at::Tensor& x, const at::Tensor& key, const at::Tensor& value) {
  if (!needs_gradient({x, key, value})) {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    return squared_relu_mlp(x, key, value);
  }
  if (!squared_relu_mlp_is_fused(x, key, value)) return squared_relu_mlp_composite(x, key, value);
  return SquaredReluMlpFunction::apply(x, key, value);
}

}  // namespace

TORCH_LIBRARY_IMPL(vrwkv, AutogradCUDA, m) { m.impl("squared_relu_mlp", squared_relu_mlp_autograd); }
TORCH_LIBRARY_IMPL(vrwkv, Autograd, m) {
  m.impl("_squared_relu_mlp_backward", torch::autograd::autogradNotImplementedFallback());
}

}  // namespace vrwkv::ops
