#include "ops/linear.h"

#include <ATen/ATen.h>
#include <ATen/autocast_mode.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <array>

#include "ops/backward_operators.h"
#include "ops/needs_gradient.h"
#include "ops/optional_tensor.h"
#include "ops/registered_operator.h"
#include "ops/weight_casts.h"

namespace vrwkv::ops {
namespace {

std::tuple<at::Tensor, at::Tensor> backward(const at::Tensor& gy, const std::optional<at::Tensor>& x,
                                            const std::optional<at::Tensor>& cast, std::array<bool, 2> needed) {
  at::Tensor gx, gweight;
  if (needed[0]) gx = at::matmul(gy, *cast);
  if (needed[1]) gweight = at::mm(gy.flatten(0, -2).t(), x->flatten(0, -2), at::kFloat);
  return {gx, gweight};
}

/// The weight counts as the float32 parameter that it is; `cast` is its value in x's dtype.
class LinearFunction : public torch::autograd::Function<LinearFunction> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x, const at::Tensor& weight,
                            const at::Tensor& cast) {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    context->save_for_backward({weight.requires_grad() ? x : at::Tensor(), x.requires_grad() ? cast : at::Tensor()});
    return at::linear(x, cast);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    const torch::autograd::variable_list saved = context->get_saved_variables();
    const auto [gx, gweight] = linear_gradients(gradients[0], optional_tensor(saved[0]), optional_tensor(saved[1]),
                                                {context->needs_input_grad(0), context->needs_input_grad(1)});
    return {gx, gweight, at::Tensor()};
  }
};

}  // namespace

std::tuple<at::Tensor, at::Tensor> linear_gradients(const at::Tensor& gy, const std::optional<at::Tensor>& x,
                                                    const std::optional<at::Tensor>& cast, std::array<bool, 2> needed) {
  return registered_operator<linear_gradients>("vrwkv::_linear_backward").call(gy, x, cast, needed);
}

at::Tensor linear(const at::Tensor& x, const at::Tensor& weight) {
  const c10::DeviceType device = x.device().type();
  const bool autocasts = at::autocast::is_autocast_enabled(device);
  const at::ScalarType dtype = autocasts ? at::autocast::get_autocast_dtype(device) : x.scalar_type();
  const bool narrows = weight.scalar_type() == at::kFloat && (dtype == at::kBFloat16 || dtype == at::kHalf);
  if (narrows && x.is_cuda()) {
    if (needs_gradient({x, weight})) return LinearFunction::apply(x.to(dtype), weight, cast_weight(weight, dtype));
    const at::Tensor cast = kept_cast(weight, dtype);
    if (cast.defined()) return at::linear(x, cast);
  }
  return at::linear(x, autocasts || weight.scalar_type() == dtype ? weight : weight.to(dtype));
}

TORCH_LIBRARY_FRAGMENT(vrwkv, m) {
  m.def("_linear_backward(Tensor gy, Tensor? x, Tensor? cast, bool[2] needed) -> (Tensor gx, Tensor gweight)");
}

TORCH_LIBRARY_IMPL(vrwkv, CUDA, m) { m.impl("_linear_backward", backward); }

TORCH_LIBRARY_IMPL(vrwkv, Autograd, m) {
  // Differentiating the gradient raises an error instead of forgetting the weight behind its cast.
  m.impl("_linear_backward", torch::autograd::autogradNotImplementedFallback());
}

}  // namespace vrwkv::ops
