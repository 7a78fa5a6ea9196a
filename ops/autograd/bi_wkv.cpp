#include "ops/bi_wkv.h"

#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "ops/needs_gradient.h"
#include "ops/registered_operator.h"

namespace vrwkv::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

std::tuple<at::Tensor, at::Tensor> with_sums(const at::Tensor& w, const at::Tensor& u, const at::Tensor& k,
                                             const at::Tensor& v) {
  return registered_operator<with_sums>("vrwkv::_bi_wkv_with_sums").call(w, u, k, v);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> call_backward(const at::Tensor& w, const at::Tensor& u,
                                                                         const at::Tensor& k, const at::Tensor& v,
                                                                         const at::Tensor& gy, const at::Tensor& sums) {
  return registered_operator<call_backward>("vrwkv::_bi_wkv_backward").call(w, u, k, v, gy, sums);
}

class BiWkvFunction : public torch::autograd::Function<BiWkvFunction> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& w, const at::Tensor& u, const at::Tensor& k,
                            const at::Tensor& v) {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    const auto [y, sums] = with_sums(w, u, k, v);
    context->save_for_backward({w, u, k, v, sums});
    return y;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    auto [gw, gu, gk, gv] = call_backward(saved[0], saved[1], saved[2], saved[3], gradients[0], saved[4]);
    return {gw, gu, gk, gv};
  }
};

at::Tensor bi_wkv_autograd(const at::Tensor& w, const at::Tensor& u, const at::Tensor& k, const at::Tensor& v) {
  if (!needs_gradient({w, u, k, v})) {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    return bi_wkv(w, u, k, v);
  }
  return BiWkvFunction::apply(w, u, k, v);
}

}  // namespace

TORCH_LIBRARY_IMPL(vrwkv, Autograd, m) {
  m.impl("bi_wkv", bi_wkv_autograd);
  // Differentiating the gradient raises an error instead of giving a silent zero.
  m.impl("_bi_wkv_backward", torch::autograd::autogradNotImplementedFallback());
}

}  // namespace vrwkv::ops
