#include "ops/bi_wkv6.h"

#include <ATen/Functions.h>
#include <ATen/OpMathType.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

#include "ops/bi_wkv6_check.h"

namespace vrwkv::ops {
namespace {

void check_shape_and_device(const char* name, const at::Tensor& tensor, at::IntArrayRef sizes, const at::Tensor& k) {
  TORCH_CHECK(tensor.sizes() == sizes, "bi_wkv6: ", name, " must be ", sizes, ", got ", tensor.sizes());
  TORCH_CHECK(tensor.device() == k.device(), "bi_wkv6: ", name, " must be on the device of k, ", k.device(), ", got ",
              tensor.device());
}

void check_like_keys(const char* name, const at::Tensor& tensor, const at::Tensor& k) {
  check_shape_and_device(name, tensor, k.sizes(), k);
  TORCH_CHECK(tensor.scalar_type() == k.scalar_type(), "bi_wkv6: ", name, " must have the dtype of k, ",
              k.scalar_type(), ", got ", tensor.scalar_type());
}

/// w and u: a decay needs more digits than bfloat16 has.
void check_wide(const char* name, const at::Tensor& tensor, at::IntArrayRef sizes, const at::Tensor& k) {
  check_shape_and_device(name, tensor, sizes, k);
  const auto wide = at::toOpMathType(k.scalar_type());
  TORCH_CHECK(tensor.scalar_type() == k.scalar_type() || tensor.scalar_type() == wide, "bi_wkv6: ", name, " must be ",
              wide, " or have the dtype of k, ", k.scalar_type(), ", got ", tensor.scalar_type());
}

at::Tensor bi_wkv6_meta(const at::Tensor& r, const at::Tensor& k, const at::Tensor& v, const at::Tensor& w,
                        const at::Tensor& u) {
  check_bi_wkv6(r, k, v, w, u);
  return at::empty_like(k, at::MemoryFormat::Contiguous);
}

BiWkv6Gradients bi_wkv6_backward_meta(const at::Tensor& r, const at::Tensor& k, const at::Tensor& v,
                                      const at::Tensor& w, const at::Tensor& u, const at::Tensor& gy) {
  check_bi_wkv6_backward(r, k, v, w, u, gy);
  const auto like = [](const at::Tensor& tensor) { return at::empty_like(tensor, at::MemoryFormat::Contiguous); };
  return {like(r), like(k), like(v), like(w), like(u)};
}

/// For every device without a kernel of its own.
at::Tensor no_kernel(const at::Tensor& r, const at::Tensor& k, const at::Tensor& v, const at::Tensor& w,
                     const at::Tensor& u) {
  check_bi_wkv6(r, k, v, w, u);
  TORCH_CHECK_NOT_IMPLEMENTED(
      false, "bi_wkv6: VRWKV6's attention has kernels for the CPU and CUDA only, got tensors on ", k.device(),
      "; move the model and its inputs to one of these, or take a model with bi_wkv");
}

}  // namespace

void check_bi_wkv6(const at::Tensor& r, const at::Tensor& k, const at::Tensor& v, const at::Tensor& w,
                   const at::Tensor& u) {
  TORCH_CHECK(k.dim() == 3, "bi_wkv6: k must be [B, T, C], got ", k.sizes());
  TORCH_CHECK(k.size(2) % kBiWkv6HeadSize == 0, "bi_wkv6: k must have whole heads of ", kBiWkv6HeadSize,
              " channels, got ", k.sizes());
  const auto dtype = k.scalar_type();
  TORCH_CHECK(dtype == at::kDouble || dtype == at::kFloat || dtype == at::kBFloat16 || dtype == at::kHalf,
              "bi_wkv6: k must be float64, float32, bfloat16 or float16, got ", dtype);
  check_like_keys("r", r, k);
  check_like_keys("v", v, k);
  check_wide("w", w, k.sizes(), k);
  check_wide("u", u, {k.size(2) / kBiWkv6HeadSize, kBiWkv6HeadSize}, k);
}

void check_bi_wkv6_backward(const at::Tensor& r, const at::Tensor& k, const at::Tensor& v, const at::Tensor& w,
                            const at::Tensor& u, const at::Tensor& gy) {
  check_bi_wkv6(r, k, v, w, u);
  check_like_keys("gy", gy, k);
}

at::Tensor bi_wkv6(const at::Tensor& r, const at::Tensor& k, const at::Tensor& v, const at::Tensor& w,
                   const at::Tensor& u) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("vrwkv::bi_wkv6", "")
                             .typed<at::Tensor(const at::Tensor&, const at::Tensor&, const at::Tensor&,
                                               const at::Tensor&, const at::Tensor&)>();
  return op.call(r, k, v, w, u);
}

TORCH_LIBRARY_FRAGMENT(vrwkv, m) {
  m.def("bi_wkv6(Tensor r, Tensor k, Tensor v, Tensor w, Tensor u) -> Tensor");
  m.def(
      "_bi_wkv6_backward(Tensor r, Tensor k, Tensor v, Tensor w, Tensor u, Tensor gy) -> (Tensor gr, Tensor gk, Tensor "
      "gv, Tensor gw, Tensor gu)");
}

TORCH_LIBRARY_IMPL(vrwkv, Meta, m) {
  m.impl("bi_wkv6", bi_wkv6_meta);
  m.impl("_bi_wkv6_backward", bi_wkv6_backward_meta);
}

TORCH_LIBRARY_IMPL(vrwkv, CompositeExplicitAutograd, m) { m.impl("bi_wkv6", no_kernel); }

}  // namespace vrwkv::ops
