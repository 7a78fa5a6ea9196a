#include <ATen/Dispatch.h>
#include <ATen/Functions.h>
#include <ATen/OpMathType.h>
#include <torch/library.h>

#include "ops/bi_wkv_check.h"
#include "ops/cpu/best_kernel.h"
#include "ops/cpu/bi_wkv_kernel.h"

namespace vrwkv::ops::cpu {
namespace {

/// Contiguous inputs in the accumulation dtype. Reduced precision is widened as a whole: on a CPU the conversion costs
/// little beside the exponentials.
struct Prepared {
  at::Tensor w, u, k, v;

  Prepared(const at::Tensor& w_in, const at::Tensor& u_in, const at::Tensor& k_in, const at::Tensor& v_in) {
    const auto dtype = at::toOpMathType(k_in.scalar_type());
    w = w_in.to(dtype).contiguous();
    u = u_in.to(dtype).contiguous();
    k = k_in.to(dtype).contiguous();
    v = v_in.to(dtype).contiguous();
  }

  template <typename T>
  BiWkvInputs<T> inputs() const {
    return {k.size(0),
            k.size(1),
            k.size(2),
            w.const_data_ptr<T>(),
            u.const_data_ptr<T>(),
            k.const_data_ptr<T>(),
            v.const_data_ptr<T>()};
  }
};

at::Tensor forward(const at::Tensor& w, const at::Tensor& u, const at::Tensor& k, const at::Tensor& v) {
  check_bi_wkv(w, u, k, v);
  const Prepared in(w, u, k, v);
  at::Tensor y = at::empty_like(in.k);
  if (y.numel() > 0) {
    AT_DISPATCH_FLOATING_TYPES(y.scalar_type(), "bi_wkv", [&] {
      VRWKV_BEST_KERNEL(bi_wkv_forward<scalar_t>)(in.inputs<scalar_t>(), y.mutable_data_ptr<scalar_t>());
    });
  }
  return y.to(k.scalar_type());
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> backward(const at::Tensor& w, const at::Tensor& u,
                                                                    const at::Tensor& k, const at::Tensor& v,
                                                                    const at::Tensor& gy, const at::Tensor&) {
  check_bi_wkv_backward(w, u, k, v, gy);
  const Prepared in(w, u, k, v);
  const at::Tensor gy_wide = gy.to(in.k.scalar_type()).contiguous();
  at::Tensor gk = at::empty_like(in.k);
  at::Tensor gv = at::empty_like(in.k);
  at::Tensor gw = at::zeros({k.size(0), k.size(2)}, in.k.options());
  at::Tensor gu = at::zeros_like(gw);
  if (gk.numel() > 0) {
    AT_DISPATCH_FLOATING_TYPES(gk.scalar_type(), "bi_wkv_backward", [&] {
      VRWKV_BEST_KERNEL(bi_wkv_backward<scalar_t>)
      (in.inputs<scalar_t>(),
       {gy_wide.const_data_ptr<scalar_t>(), gk.mutable_data_ptr<scalar_t>(), gv.mutable_data_ptr<scalar_t>(),
        gw.mutable_data_ptr<scalar_t>(), gu.mutable_data_ptr<scalar_t>()});
    });
  }
  const auto narrow = k.scalar_type();
  return {gw.sum(0).to(w.scalar_type()), gu.sum(0).to(u.scalar_type()), gk.to(narrow), gv.to(narrow)};
}

}  // namespace

TORCH_LIBRARY_IMPL(vrwkv, CPU, m) {
  m.impl("bi_wkv", forward);
  m.impl("_bi_wkv_backward", backward);
}

}  // namespace vrwkv::ops::cpu
