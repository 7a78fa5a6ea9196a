#include <ATen/Dispatch.h>
#include <ATen/Functions.h>
#include <ATen/OpMathType.h>
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <torch/library.h>

#include <limits>

#include "ops/bi_wkv_check.h"
#include "ops/cuda/bi_wkv_kernels.cuh"

namespace vrwkv::ops::cuda {
namespace {

unsigned int blocks_for(int64_t threads) {
  const int64_t blocks = (threads + kThreads - 1) / kThreads;
  TORCH_CHECK(blocks <= std::numeric_limits<int>::max(), "bi_wkv: the input is too large for one launch (", threads,
              " threads); split the batch");
  return static_cast<unsigned int>(blocks);
}

/// Contiguous inputs and the scratch of one call, for accumulation type T and storage type In.
template <typename T, typename In>
class Launcher {
 public:
  Launcher(const at::Tensor& w, const at::Tensor& u, const at::Tensor& k, const at::Tensor& v)
      : w_(w.to(c10::CppTypeToScalarType<T>::value).contiguous()),
        u_(u.to(c10::CppTypeToScalarType<T>::value).contiguous()),
        k_(k.contiguous()),
        v_(v.contiguous()),
        shape_{k.size(0), k.size(1), k.size(2), (k.size(1) + kSegment<T> - 1) / kSegment<T>},
        places_(shape_.batch * shape_.segments * shape_.channels),
        stream_(at::cuda::getCurrentCUDAStream()) {}

  void forward(at::Tensor& y) const {
    const at::Tensor carries = scan(ForwardTerms<T, In>{in(k_), in(v_)});
    forward_kernel<T, In, false><<<blocks_for(places_), kThreads, 0, stream_>>>(
        shape_, acc(w_), acc(u_), in(k_), in(v_), states<Sums<T>>(carries), y.mutable_data_ptr<In>(), nullptr, nullptr,
        nullptr, nullptr);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  }

  void backward(const at::Tensor& gy, at::Tensor& gk, at::Tensor& gv, at::Tensor& gw, at::Tensor& gu) const {
    const at::Tensor term_buffer = at::empty({3, k_.numel()}, w_.options());
    const at::Tensor key = term_buffer[0], g = term_buffer[1], h = term_buffer[2];
    const at::Tensor forward_carries = scan(ForwardTerms<T, In>{in(k_), in(v_)});
    forward_kernel<T, In, true><<<blocks_for(places_), kThreads, 0, stream_>>>(
        shape_, acc(w_), acc(u_), in(k_), in(v_), states<Sums<T>>(forward_carries), nullptr, in(gy),
        key.mutable_data_ptr<T>(), g.mutable_data_ptr<T>(), h.mutable_data_ptr<T>());
    C10_CUDA_KERNEL_LAUNCH_CHECK();

    const BackwardTerms<T> terms{acc(key), acc(g), acc(h)};
    const at::Tensor carries = scan(terms);
    const at::Tensor parts = at::empty({2, shape_.batch * shape_.segments, shape_.channels}, w_.options());
    const at::Tensor gw_part = parts[0], gu_part = parts[1];
    backward_kernel<T, In><<<blocks_for(places_), kThreads, 0, stream_>>>(
        shape_, acc(w_), acc(u_), in(k_), in(v_), terms, states<WeightedSums<T>>(carries), gk.mutable_data_ptr<In>(),
        gv.mutable_data_ptr<In>(), gw_part.mutable_data_ptr<T>(), gu_part.mutable_data_ptr<T>());
    C10_CUDA_KERNEL_LAUNCH_CHECK();
    gw = gw_part.sum(0);
    gu = gu_part.sum(0);
  }

 private:
  static const In* in(const at::Tensor& tensor) { return tensor.const_data_ptr<In>(); }
  static const T* acc(const at::Tensor& tensor) { return tensor.const_data_ptr<T>(); }

  template <typename State>
  static State* states(const at::Tensor& buffer) {
    return reinterpret_cast<State*>(buffer.mutable_data_ptr<T>());
  }

  /// What stands left and right of every segment, [2, batch, segments, channels] states.
  template <typename Terms>
  at::Tensor scan(const Terms& terms) const {
    using State = typename Terms::State;
    const at::Tensor buffer = at::empty({2 * places_ * static_cast<int64_t>(sizeof(State) / sizeof(T))}, w_.options());
    summarize_kernel<T, Terms>
        <<<blocks_for(places_), kThreads, 0, stream_>>>(shape_, acc(w_), terms, states<State>(buffer));
    C10_CUDA_KERNEL_LAUNCH_CHECK();
    carry_kernel<T, State><<<blocks_for(2 * shape_.batch * shape_.channels), kThreads, 0, stream_>>>(
        shape_, acc(w_), states<State>(buffer));
    C10_CUDA_KERNEL_LAUNCH_CHECK();
    return buffer;
  }

  at::Tensor w_, u_, k_, v_;
  Shape shape_;
  int64_t places_;
  cudaStream_t stream_;
};

at::Tensor forward(const at::Tensor& w, const at::Tensor& u, const at::Tensor& k, const at::Tensor& v) {
  check_bi_wkv(w, u, k, v);
  const c10::cuda::CUDAGuard guard(k.device());
  at::Tensor y = at::empty_like(k, at::MemoryFormat::Contiguous);
  if (y.numel() == 0) return y;
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, k.scalar_type(), "bi_wkv",
                                  [&] { Launcher<at::opmath_type<scalar_t>, scalar_t>(w, u, k, v).forward(y); });
  return y;
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> backward(const at::Tensor& w, const at::Tensor& u,
                                                                    const at::Tensor& k, const at::Tensor& v,
                                                                    const at::Tensor& gy) {
  check_bi_wkv_backward(w, u, k, v, gy);
  const c10::cuda::CUDAGuard guard(k.device());
  at::Tensor gk = at::empty_like(k, at::MemoryFormat::Contiguous);
  at::Tensor gv = at::empty_like(gk);
  at::Tensor gw = at::zeros_like(w);
  at::Tensor gu = at::zeros_like(u);
  if (gk.numel() == 0) return {gw, gu, gk, gv};
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, k.scalar_type(), "bi_wkv_backward", [&] {
    Launcher<at::opmath_type<scalar_t>, scalar_t>(w, u, k, v).backward(gy.contiguous(), gk, gv, gw, gu);
  });
  return {gw.to(w.scalar_type()), gu.to(u.scalar_type()), gk, gv};
}

}  // namespace

TORCH_LIBRARY_IMPL(vrwkv, CUDA, m) {
  m.impl("bi_wkv", forward);
  m.impl("_bi_wkv_backward", backward);
}

}  // namespace vrwkv::ops::cuda
