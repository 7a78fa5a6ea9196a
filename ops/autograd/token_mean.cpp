#include "ops/token_mean.h"

#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "ops/registered_operator.h"
#include "ops/token_mean_check.h"

namespace vrwkv::ops {
namespace {

/// The operator's signature.
at::Tensor token_mean_gradient(const at::Tensor& gy, int64_t tokens, at::ScalarType dtype) {
  return registered_operator<token_mean_gradient>("vrwkv::_token_mean_backward").call(gy, tokens, dtype);
}

class TokenMeanFunction : public torch::autograd::Function<TokenMeanFunction> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x) {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    context->saved_data["tokens"] = x.size(1);
    context->saved_data["dtype"] = x.scalar_type();
    return token_mean(x);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    return {token_mean_gradient(gradients[0], context->saved_data["tokens"].toInt(),
                                context->saved_data["dtype"].toScalarType())};
  }
};

at::Tensor token_mean_autograd(const at::Tensor& x) {
  check_token_mean(x);
  return token_mean_is_fused(x) ? TokenMeanFunction::apply(x) : token_mean_composite(x);
}

}  // namespace

// Where there is no kernel the composite differentiates itself.
TORCH_LIBRARY_IMPL(vrwkv, AutogradCUDA, m) { m.impl("token_mean", token_mean_autograd); }

TORCH_LIBRARY_IMPL(vrwkv, Autograd, m) {
  // Differentiating the gradient raises an error instead of giving a silent zero.
  m.impl("_token_mean_backward", torch::autograd::autogradNotImplementedFallback());
}

}  // namespace vrwkv::ops
