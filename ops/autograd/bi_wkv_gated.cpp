#include "ops/bi_wkv_gated.h"

#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "ops/needs_gradient.h"
#include "ops/registered_operator.h"

namespace vrwkv::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

std::tuple<at::Tensor, at::Tensor> gated_with_sums(const at::Tensor& w, const at::Tensor& u, const at::Tensor& k,
                                                   const at::Tensor& v, const at::Tensor& r) {
  return registered_operator<gated_with_sums>("vrwkv::_bi_wkv_gated_with_sums").call(w, u, k, v, r);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor> call_backward(
    const at::Tensor& w, const at::Tensor& u, const at::Tensor& k, const at::Tensor& v, const at::Tensor& r,
    const at::Tensor& gy, const at::Tensor& sums) {
  return registered_operator<call_backward>("vrwkv::_bi_wkv_gated_backward").call(w, u, k, v, r, gy, sums);
}

/// For CUDA, whose kernels compute both passes; elsewhere the product differentiates itself.
class BiWkvGatedFunction : public torch::autograd::Function<BiWkvGatedFunction> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& w, const at::Tensor& u, const at::Tensor& k,
                            const at::Tensor& v, const at::Tensor& r) {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    const auto [y, sums] = gated_with_sums(w, u, k, v, r);
    context->save_for_backward({w, u, k, v, r, sums});
    return y;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    auto [gw, gu, gk, gv, gr] = call_backward(saved[0], saved[1], saved[2], saved[3], saved[4], gradients[0], saved[5]);
    return {gw, gu, gk, gv, gr};
  }
};

at::Tensor bi_wkv_gated_autograd(const at::Tensor& w, const at::Tensor& u, const at::Tensor& k, const at::Tensor& v,
                                 const at::Tensor& r) {
  if (!needs_gradient({w, u, k, v, r})) {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    return bi_wkv_gated(w, u, k, v, r);
  }
  return BiWkvGatedFunction::apply(w, u, k, v, r);
}

}  // namespace

TORCH_LIBRARY_IMPL(vrwkv, AutogradCUDA, m) { m.impl("bi_wkv_gated", bi_wkv_gated_autograd); }
TORCH_LIBRARY_IMPL(vrwkv, Autograd, m) {
  m.impl("_bi_wkv_gated_backward", torch::autograd::autogradNotImplementedFallback());
}

}  // namespace vrwkv::ops
