#include "ops/bi_wkv_gated.h"

#include <ATen/Functions.h>
#include <ATen/OpMathType.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

#include "ops/bi_wkv.h"
#include "ops/bi_wkv_check.h"

namespace vrwkv::ops {
namespace {

at::Tensor bi_wkv_gated_composite(const at::Tensor& w, const at::Tensor& u, const at::Tensor& k, const at::Tensor& v,
                                  const at::Tensor& r) {
  check_bi_wkv_gated(w, u, k, v, r);
  // In the dtype of the sums, so that the result is rounded once.
  const auto sums = at::toOpMathType(k.scalar_type());
  const at::Tensor y = bi_wkv(w.to(sums), u.to(sums), k.to(sums), v.to(sums));
  return (at::sigmoid(r.to(sums)) * y).to(k.scalar_type());
}

}  // namespace

void check_bi_wkv_gated(const at::Tensor& w, const at::Tensor& u, const at::Tensor& k, const at::Tensor& v,
                        const at::Tensor& r) {
  check_bi_wkv(w, u, k, v);
  check_like_k("r", r, k);
}

at::Tensor bi_wkv_gated(const at::Tensor& w, const at::Tensor& u, const at::Tensor& k, const at::Tensor& v,
                        const at::Tensor& r) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("vrwkv::bi_wkv_gated", "")
                             .typed<at::Tensor(const at::Tensor&, const at::Tensor&, const at::Tensor&,
                                               const at::Tensor&, const at::Tensor&)>();
  return op.call(w, u, k, v, r);
}

TORCH_LIBRARY_FRAGMENT(vrwkv, m) {
  m.def("bi_wkv_gated(Tensor w, Tensor u, Tensor k, Tensor v, Tensor r) -> Tensor");
  m.def("_bi_wkv_gated_with_sums(Tensor w, Tensor u, Tensor k, Tensor v, Tensor r) -> (Tensor y, Tensor sums)");
  m.def(
      "_bi_wkv_gated_backward(Tensor w, Tensor u, Tensor k, Tensor v, Tensor r, Tensor gy, Tensor sums) -> (Tensor gw, "
      "Tensor gu, Tensor gk, Tensor gv, Tensor gr)");
}

// Where no kernel does it in one pass, it is the product of the two.
TORCH_LIBRARY_IMPL(vrwkv, CompositeImplicitAutograd, m) { m.impl("bi_wkv_gated", bi_wkv_gated_composite); }

}  // namespace vrwkv::ops
