#include "ops/add_places.h"

#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "ops/add_places_check.h"
#include "ops/backward_operators.h"
#include "ops/registered_operator.h"

namespace vrwkv::ops {
namespace {

class AddPlacesFunction : public torch::autograd::Function<AddPlacesFunction> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* /*context*/, const at::Tensor& x, const at::Tensor& bias,
                            const at::Tensor& places) {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    return add_places(x, bias, places);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    const at::Tensor& gy = gradients[0];
    if (!context->needs_input_grad(1) && !context->needs_input_grad(2)) return {gy, at::Tensor(), at::Tensor()};
    const auto [gbias, gplaces] = add_places_gradients(gy);
    return {gy, gbias, gplaces};
  }
};

at::Tensor add_places_autograd(const at::Tensor& x, const at::Tensor& bias, const at::Tensor& places) {
  check_add_places(x, bias, places);
  return add_places_is_fused(x, bias, places) ? AddPlacesFunction::apply(x, bias, places)
                                              : add_places_composite(x, bias, places);
}

}  // namespace

std::tuple<at::Tensor, at::Tensor> add_places_gradients(const at::Tensor& gy) {
  return registered_operator<add_places_gradients>("vrwkv::_add_places_backward").call(gy);
}

// Where there is no kernel the composite differentiates itself.
TORCH_LIBRARY_IMPL(vrwkv, AutogradCUDA, m) { m.impl("add_places", add_places_autograd); }

TORCH_LIBRARY_IMPL(vrwkv, Autograd, m) {
  // Differentiating the gradient raises an error instead of giving a silent zero.
  m.impl("_add_places_backward", torch::autograd::autogradNotImplementedFallback());
}

}  // namespace vrwkv::ops
