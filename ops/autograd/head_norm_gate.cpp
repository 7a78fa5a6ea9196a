#include "ops/head_norm_gate.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "ops/head_norm_gate_check.h"

namespace vrwkv::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// For CUDA's kernels; the composition differentiates itself.
class HeadNormGateFunction : public torch::autograd::Function<HeadNormGateFunction> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& y, const at::Tensor& gate,
                            const at::Tensor& weight, const at::Tensor& bias, int64_t heads, double eps) {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    context->save_for_backward({y, gate, weight, bias});
    context->saved_data["eps"] = eps;
    return head_norm_gate(y, gate, weight, bias, heads, eps);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    static const auto op = c10::Dispatcher::singleton()
                               .findSchemaOrThrow("vrwkv::_head_norm_gate_backward", "")
                               .typed<std::tuple<at::Tensor, at::Tensor, at::Tensor>(
                                   const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&,
                                   const at::Tensor&, double)>();
    const variable_list saved = context->get_saved_variables();
    const auto [gy, ggate, sums] =
        op.call(saved[0], saved[1], saved[2], saved[3], gradients[0], context->saved_data["eps"].toDouble());
    return {gy,           ggate,       sums[0].to(saved[2].scalar_type()), sums[1].to(saved[3].scalar_type()),
            at::Tensor(), at::Tensor()};
  }
};

at::Tensor head_norm_gate_autograd(const at::Tensor& y, const at::Tensor& gate, const at::Tensor& weight,
                                   const at::Tensor& bias, int64_t heads, double eps) {
  check_head_norm_gate(y, gate, weight, bias, heads);
  if (!head_norm_gate_is_fused(y, heads)) return head_norm_gate_composite(y, gate, weight, bias, heads, eps);
  return HeadNormGateFunction::apply(y, gate, weight, bias, heads, eps);
}

}  // namespace

TORCH_LIBRARY_IMPL(vrwkv, AutogradCUDA, m) { m.impl("head_norm_gate", head_norm_gate_autograd); }
TORCH_LIBRARY_IMPL(vrwkv, Autograd, m) {
  m.impl("_head_norm_gate_backward", torch::autograd::autogradNotImplementedFallback());
}

}  // namespace vrwkv::ops
