#include "ops/bi_wkv.h"

#include <ATen/Functions.h>
#include <ATen/OpMathType.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

#include "ops/bi_wkv_check.h"

namespace vrwkv::ops {

void check_like_k(const char* name, const at::Tensor& tensor, const at::Tensor& k) {
  TORCH_CHECK(tensor.sizes() == k.sizes(), "bi_wkv: ", name, " must have the shape of k, ", k.sizes(), ", got ",
              tensor.sizes());
  TORCH_CHECK(tensor.scalar_type() == k.scalar_type(), "bi_wkv: ", name, " must have the dtype of k, ", k.scalar_type(),
              ", got ", tensor.scalar_type());
  TORCH_CHECK(tensor.device() == k.device(), "bi_wkv: ", name, " must be on the device of k, ", k.device(), ", got ",
              tensor.device());
}

namespace {

void check_per_channel(const char* name, const at::Tensor& tensor, const at::Tensor& k) {
  TORCH_CHECK(tensor.dim() == 1 && tensor.size(0) == k.size(2), "bi_wkv: ", name, " must be [C] = [", k.size(2),
              "], got ", tensor.sizes());
  TORCH_CHECK(tensor.scalar_type() == k.scalar_type() || tensor.scalar_type() == at::toOpMathType(k.scalar_type()),
              "bi_wkv: ", name, " must be ", at::toOpMathType(k.scalar_type()), " or have the dtype of k, ",
              k.scalar_type(), ", got ", tensor.scalar_type());
  TORCH_CHECK(tensor.device() == k.device(), "bi_wkv: ", name, " must be on the device of k, ", k.device(), ", got ",
              tensor.device());
}

at::Tensor bi_wkv_meta(const at::Tensor& w, const at::Tensor& u, const at::Tensor& k, const at::Tensor& v) {
  check_bi_wkv(w, u, k, v);
  return at::empty_like(k, at::MemoryFormat::Contiguous);
}

/// Where a backend keeps no sums for the backward pass, its forward pass.
std::tuple<at::Tensor, at::Tensor> bi_wkv_without_sums(const at::Tensor& w, const at::Tensor& u, const at::Tensor& k,
                                                       const at::Tensor& v) {
  return {bi_wkv(w, u, k, v), at::empty({0}, k.options())};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> bi_wkv_backward_meta(
    const at::Tensor& w, const at::Tensor& u, const at::Tensor& k, const at::Tensor& v, const at::Tensor& gy,
    const at::Tensor&) {
  check_bi_wkv_backward(w, u, k, v, gy);
  return {at::empty_like(w), at::empty_like(u), at::empty_like(k, at::MemoryFormat::Contiguous),
          at::empty_like(v, at::MemoryFormat::Contiguous)};
}

}  // namespace

void check_bi_wkv(const at::Tensor& w, const at::Tensor& u, const at::Tensor& k, const at::Tensor& v) {
  TORCH_CHECK(k.dim() == 3, "bi_wkv: k must be [B, T, C], got ", k.sizes());
  TORCH_CHECK(k.size(1) >= 1, "bi_wkv: k must have at least one token (T >= 1), got ", k.sizes());
  const auto dtype = k.scalar_type();
  TORCH_CHECK(dtype == at::kDouble || dtype == at::kFloat || dtype == at::kBFloat16 || dtype == at::kHalf,
              "bi_wkv: k must be float64, float32, bfloat16 or float16, got ", dtype);
  check_like_k("v", v, k);
  check_per_channel("w", w, k);
  check_per_channel("u", u, k);
  TORCH_CHECK(w.scalar_type() == u.scalar_type(), "bi_wkv: u must have the dtype of w, ", w.scalar_type(), ", got ",
              u.scalar_type());
}

void check_bi_wkv_backward(const at::Tensor& w, const at::Tensor& u, const at::Tensor& k, const at::Tensor& v,
                           const at::Tensor& gy) {
  check_bi_wkv(w, u, k, v);
  check_like_k("gy", gy, k);
}

at::Tensor bi_wkv(const at::Tensor& w, const at::Tensor& u, const at::Tensor& k, const at::Tensor& v) {
  static const auto op =
      c10::Dispatcher::singleton()
          .findSchemaOrThrow("vrwkv::bi_wkv", "")
          .typed<at::Tensor(const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&)>();
  return op.call(w, u, k, v);
}

TORCH_LIBRARY_FRAGMENT(vrwkv, m) {
  m.def("bi_wkv(Tensor w, Tensor u, Tensor k, Tensor v) -> Tensor");
  m.def("_bi_wkv_with_sums(Tensor w, Tensor u, Tensor k, Tensor v) -> (Tensor y, Tensor sums)");
  m.def(
      "_bi_wkv_backward(Tensor w, Tensor u, Tensor k, Tensor v, Tensor gy, Tensor sums) -> (Tensor gw, Tensor gu, "
      "Tensor gk, Tensor gv)");
}

TORCH_LIBRARY_IMPL(vrwkv, CPU, m) { m.impl("_bi_wkv_with_sums", bi_wkv_without_sums); }

TORCH_LIBRARY_IMPL(vrwkv, Meta, m) {
  m.impl("bi_wkv", bi_wkv_meta);
  m.impl("_bi_wkv_with_sums", bi_wkv_without_sums);
  m.impl("_bi_wkv_backward", bi_wkv_backward_meta);
}

}  // namespace vrwkv::ops
