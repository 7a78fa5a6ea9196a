#include "ops/bi_wkv6.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "ops/bi_wkv6_check.h"

namespace vrwkv::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

class BiWkv6Function : public torch::autograd::Function<BiWkv6Function> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& r, const at::Tensor& k, const at::Tensor& v,
                            const at::Tensor& w, const at::Tensor& u) {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    context->save_for_backward({r, k, v, w, u});
    return bi_wkv6(r, k, v, w, u);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    static const auto op = c10::Dispatcher::singleton()
                               .findSchemaOrThrow("vrwkv::_bi_wkv6_backward", "")
                               .typed<BiWkv6Gradients(const at::Tensor&, const at::Tensor&, const at::Tensor&,
                                                      const at::Tensor&, const at::Tensor&, const at::Tensor&)>();
    const variable_list saved = context->get_saved_variables();
    auto [gr, gk, gv, gw, gu] = op.call(saved[0], saved[1], saved[2], saved[3], saved[4], gradients[0]);
    return {gr, gk, gv, gw, gu};
  }
};

at::Tensor bi_wkv6_autograd(const at::Tensor& r, const at::Tensor& k, const at::Tensor& v, const at::Tensor& w,
                            const at::Tensor& u) {
  return BiWkv6Function::apply(r, k, v, w, u);
}

}  // namespace

TORCH_LIBRARY_IMPL(vrwkv, Autograd, m) {
  m.impl("bi_wkv6", bi_wkv6_autograd);
  // Differentiating the gradient raises an error instead of giving a silent zero.
  m.impl("_bi_wkv6_backward", torch::autograd::autogradNotImplementedFallback());
}

}  // namespace vrwkv::ops
