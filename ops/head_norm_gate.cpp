#include "ops/head_norm_gate.h"

#include <ATen/Functions.h>
#include <ATen/OpMathType.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/library.h>

#include "ops/bi_wkv6_head.h"
#include "ops/head_norm_gate_check.h"

namespace vrwkv::ops {
namespace {

void check_parameter(const char* name, const at::Tensor& tensor, const at::Tensor& y) {
  const auto sums = at::toOpMathType(y.scalar_type());
  TORCH_CHECK(tensor.dim() == 1 && tensor.size(0) == y.size(2), "head_norm_gate: ", name, " must be [C] = [", y.size(2),
              "], got ", tensor.sizes());
  TORCH_CHECK(tensor.scalar_type() == sums || tensor.scalar_type() == y.scalar_type(), "head_norm_gate: ", name,
              " must be ", sums, " or have the dtype of y, ", y.scalar_type(), ", got ", tensor.scalar_type());
  TORCH_CHECK(tensor.device() == y.device(), "head_norm_gate: ", name, " must be on the device of y, ", y.device(),
              ", got ", tensor.device());
}

}  // namespace

void check_head_norm_gate(const at::Tensor& y, const at::Tensor& gate, const at::Tensor& weight, const at::Tensor& bias,
                          int64_t heads) {
  TORCH_CHECK(y.dim() == 3, "head_norm_gate: y must be [B, T, C], got ", y.sizes());
  const auto dtype = y.scalar_type();
  TORCH_CHECK(dtype == at::kDouble || dtype == at::kFloat || dtype == at::kBFloat16 || dtype == at::kHalf,
              "head_norm_gate: y must be float64, float32, bfloat16 or float16, got ", dtype);
  TORCH_CHECK(heads >= 1 && y.size(2) % heads == 0, "head_norm_gate: heads must divide the C = ", y.size(2),
              " channels of y, got ", heads);
  TORCH_CHECK(gate.sizes() == y.sizes(), "head_norm_gate: gate must have the shape of y, ", y.sizes(), ", got ",
              gate.sizes());
  TORCH_CHECK(gate.scalar_type() == dtype, "head_norm_gate: gate must have the dtype of y, ", dtype, ", got ",
              gate.scalar_type());
  TORCH_CHECK(gate.device() == y.device(), "head_norm_gate: gate must be on the device of y, ", y.device(), ", got ",
              gate.device());
  check_parameter("weight", weight, y);
  check_parameter("bias", bias, y);
}

bool head_norm_gate_is_fused(const at::Tensor& y, int64_t heads) { return y.size(2) == heads * kBiWkv6HeadSize; }

at::Tensor head_norm_gate_composite(const at::Tensor& y, const at::Tensor& gate, const at::Tensor& weight,
                                    const at::Tensor& bias, int64_t heads, double eps) {
  check_head_norm_gate(y, gate, weight, bias, heads);
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
  const auto sums = at::toOpMathType(y.scalar_type());
  const at::Tensor apart = y.to(sums).unflatten(2, {heads, y.size(2) / heads});
  const at::Tensor standardized = at::layer_norm(apart, {apart.size(3)}, {}, {}, eps).flatten(2);
  const at::Tensor normed = at::addcmul(bias.to(sums), standardized, weight.to(sums));
  return (normed * at::silu(gate.to(sums))).to(y.scalar_type()).contiguous();
}

at::Tensor head_norm_gate(const at::Tensor& y, const at::Tensor& gate, const at::Tensor& weight, const at::Tensor& bias,
                          int64_t heads, double eps) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("vrwkv::head_norm_gate", "")
                             .typed<at::Tensor(const at::Tensor&, const at::Tensor&, const at::Tensor&,
                                               const at::Tensor&, int64_t, double)>();
  return op.call(y, gate, weight, bias, heads, eps);
}

TORCH_LIBRARY_FRAGMENT(vrwkv, m) {
  m.def("head_norm_gate(Tensor y, Tensor gate, Tensor weight, Tensor bias, int heads, float eps) -> Tensor");
  // `sums` are the gradients of weight and bias, [2, C].
  m.def(
      "_head_norm_gate_backward(Tensor y, Tensor gate, Tensor weight, Tensor bias, Tensor gradient, float eps) -> "
      "(Tensor gy, Tensor ggate, Tensor sums)");
}

TORCH_LIBRARY_IMPL(vrwkv, CompositeImplicitAutograd, m) { m.impl("head_norm_gate", head_norm_gate_composite); }

}  // namespace vrwkv::ops
