#include "ops/bi_wkv6.h"

#include <ATen/Dispatch.h>
#include <ATen/Functions.h>
#include <ATen/OpMathType.h>
#include <ATen/TensorOperators.h>
#include <torch/library.h>

#include "ops/bi_wkv6_check.h"
#include "ops/cpu/best_kernel.h"
#include "ops/cpu/bi_wkv6_kernel.h"

namespace vrwkv::ops::cpu {
namespace {

/// Contiguous inputs in the accumulation dtype.
struct Prepared {
  at::Tensor r, k, v, rate, decay, u;

  Prepared(const at::Tensor& r_in, const at::Tensor& k_in, const at::Tensor& v_in, const at::Tensor& w_in,
           const at::Tensor& u_in) {
    const auto dtype = at::toOpMathType(k_in.scalar_type());
    r = r_in.to(dtype).contiguous();
    k = k_in.to(dtype).contiguous();
    v = v_in.to(dtype).contiguous();
    u = u_in.to(dtype).contiguous();
    rate = at::exp(w_in.to(dtype).contiguous());
    decay = at::exp(-rate);
  }

  template <typename T>
  BiWkv6Inputs<T> inputs() const {
    return {k.size(0),
            k.size(1),
            u.size(0),
            r.const_data_ptr<T>(),
            k.const_data_ptr<T>(),
            v.const_data_ptr<T>(),
            decay.const_data_ptr<T>(),
            u.const_data_ptr<T>()};
  }

  /// d decay / dw = -exp(w) exp(-exp(w)), whose limit is 0 where exp(w) leaves the range.
  at::Tensor decay_derivative() const { return -(rate * decay).masked_fill_(rate.isinf(), 0.0); }
};

at::Tensor forward(const at::Tensor& r, const at::Tensor& k, const at::Tensor& v, const at::Tensor& w,
                   const at::Tensor& u) {
  check_bi_wkv6(r, k, v, w, u);
  const Prepared in(r, k, v, w, u);
  at::Tensor y = at::empty_like(in.k);
  if (y.numel() > 0) {
    AT_DISPATCH_FLOATING_TYPES(y.scalar_type(), "bi_wkv6", [&] {
      VRWKV_BEST_KERNEL(bi_wkv6_forward<scalar_t>)(in.inputs<scalar_t>(), y.mutable_data_ptr<scalar_t>());
    });
  }
  return y.to(k.scalar_type());
}

BiWkv6Gradients backward(const at::Tensor& r, const at::Tensor& k, const at::Tensor& v, const at::Tensor& w,
                         const at::Tensor& u, const at::Tensor& gy) {
  check_bi_wkv6_backward(r, k, v, w, u, gy);
  const Prepared in(r, k, v, w, u);
  const at::Tensor gy_wide = gy.to(in.k.scalar_type()).contiguous();
  at::Tensor gr = at::empty_like(in.k), gk = at::empty_like(in.k), gv = at::empty_like(in.k);
  at::Tensor gdecay = at::empty_like(in.k);
  at::Tensor gu = at::zeros({k.size(0), u.size(0), kBiWkv6HeadSize}, in.k.options());
  if (gk.numel() > 0) {
    AT_DISPATCH_FLOATING_TYPES(gk.scalar_type(), "bi_wkv6_backward", [&] {
      VRWKV_BEST_KERNEL(bi_wkv6_backward<scalar_t>)
      (in.inputs<scalar_t>(),
       {gy_wide.const_data_ptr<scalar_t>(), gr.mutable_data_ptr<scalar_t>(), gk.mutable_data_ptr<scalar_t>(),
        gv.mutable_data_ptr<scalar_t>(), gdecay.mutable_data_ptr<scalar_t>(), gu.mutable_data_ptr<scalar_t>()});
    });
  }
  const auto narrow = k.scalar_type();
  return {gr.to(narrow), gk.to(narrow), gv.to(narrow), (gdecay * in.decay_derivative()).to(w.scalar_type()),
          gu.sum(0).to(u.scalar_type())};
}

}  // namespace

TORCH_LIBRARY_IMPL(vrwkv, CPU, m) {
  m.impl("bi_wkv6", forward);
  m.impl("_bi_wkv6_backward", backward);
}

}  // namespace vrwkv::ops::cpu
