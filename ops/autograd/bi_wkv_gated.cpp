#include "ops/bi_wkv_gated.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

namespace vrwkv::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using Gradients = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor>;

/// For CUDA, whose kernels compute both passes; elsewhere the product differentiates itself.
class BiWkvGatedFunction : public torch::autograd::Function<BiWkvGatedFunction> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& w, const at::Tensor& u, const at::Tensor& k,
                            const at::Tensor& v, const at::Tensor& r) {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    context->save_for_backward({w, u, k, v, r});
    return bi_wkv_gated(w, u, k, v, r);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    static const auto op = c10::Dispatcher::singleton()
                               .findSchemaOrThrow("vrwkv::_bi_wkv_gated_backward", "")
                               .typed<Gradients(const at::Tensor&, const at::Tensor&, const at::Tensor&,
                                                const at::Tensor&, const at::Tensor&, const at::Tensor&)>();
    const variable_list saved = context->get_saved_variables();
    auto [gw, gu, gk, gv, gr] = op.call(saved[0], saved[1], saved[2], saved[3], saved[4], gradients[0]);
    return {gw, gu, gk, gv, gr};
  }
};

at::Tensor bi_wkv_gated_autograd(const at::Tensor& w, const at::Tensor& u, const at::Tensor& k, const at::Tensor& v,
                                 const at::Tensor& r) {
  return BiWkvGatedFunction::apply(w, u, k, v, r);
}

}  // namespace

TORCH_LIBRARY_IMPL(vrwkv, AutogradCUDA, m) { m.impl("bi_wkv_gated", bi_wkv_gated_autograd); }
TORCH_LIBRARY_IMPL(vrwkv, Autograd, m) {
  m.impl("_bi_wkv_gated_backward", torch::autograd::autogradNotImplementedFallback());
}

}  // namespace vrwkv::ops
