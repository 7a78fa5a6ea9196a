#include "ops/squared_relu.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

namespace vrwkv::ops {
namespace {

/// For CUDA; elsewhere the composition differentiates itself.
class SquaredReluFunction : public torch::autograd::Function<SquaredReluFunction> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x) {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    at::Tensor y = squared_relu(x);
    const bool keep_result = x.scalar_type() != at::kHalf;
    context->save_for_backward({keep_result ? y : x});
    context->saved_data["is_result"] = keep_result;
    return y;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    static const auto op = c10::Dispatcher::singleton()
                               .findSchemaOrThrow("vrwkv::_squared_relu_backward", "")
                               .typed<at::Tensor(const at::Tensor&, const at::Tensor&, bool)>();
    return {op.call(context->get_saved_variables()[0], gradients[0], context->saved_data["is_result"].toBool())};
  }
};

at::Tensor squared_relu_autograd(const at::Tensor& x) { return SquaredReluFunction::apply(x); }

}  // namespace

TORCH_LIBRARY_IMPL(vrwkv, AutogradCUDA, m) { m.impl("squared_relu", squared_relu_autograd); }
TORCH_LIBRARY_IMPL(vrwkv, Autograd, m) {
  m.impl("_squared_relu_backward", torch::autograd::autogradNotImplementedFallback());
}

}  // namespace vrwkv::ops
