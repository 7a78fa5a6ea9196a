#include <ATen/Dispatch.h>

#include "ops/cuda/bi_wkv_launch.cuh"

namespace vrwkv::ops::cuda {
namespace {

template <bool kGated, typename T, typename In>
void run(const Launcher<T, In>& launcher, const GradientPointers<T, In>& gradients) {
  const Shape& shape = launcher.shape();
  const Inputs<T, In> inputs = launcher.inputs();
  const GlobalSums<T> nothing{nullptr};
  if (shape.chunks == 1) {
    launcher.template launch<Exchange::none>(backward_kernel<T, In, Exchange::none, kGated, false>,
                                             launcher.template backward_tiles<Exchange::none>(), shape, inputs, nothing,
                                             nothing, gradients);
    return;
  }
  const int tiles = launcher.template backward_tiles<Exchange::global>();
  if constexpr (sizeof(T) == 4) {
    const auto kernel = backward_kernel<T, In, Exchange::cluster, kGated, false>;
    if (launcher.can_cluster(kernel, tiles)) {
      launcher.template launch<Exchange::cluster>(kernel, tiles, shape, inputs, nothing, nothing, gradients);
      return;
    }
  }
  const at::Tensor sums = launcher.chunk_sums();
  const at::Tensor gradient_sums = launcher.chunk_sums();
  const GlobalSums<T> global = launcher.global(sums);
  const GlobalSums<T> gradient_global = launcher.global(gradient_sums);
  launcher.template launch<Exchange::global>(totals_kernel<T, In>, launcher.template forward_tiles<Exchange::global>(),
                                             shape, inputs, global);
  launcher.scan_chunks(sums);
  launcher.template launch<Exchange::global>(backward_kernel<T, In, Exchange::global, kGated, true>, tiles, shape,
                                             inputs, global, gradient_global, gradients);
  launcher.scan_chunks(gradient_sums);
  launcher.template launch<Exchange::global>(backward_kernel<T, In, Exchange::global, kGated, false>, tiles, shape,
                                             inputs, global, gradient_global, gradients);
}

}  // namespace

BiWkvGradients bi_wkv_backward(const at::Tensor& w, const at::Tensor& u, const at::Tensor& k, const at::Tensor& v,
                               const at::Tensor& r, const at::Tensor& gy_in) {
  BiWkvGradients out{{}, {}, at::empty_like(k, at::MemoryFormat::Contiguous), {}, {}};
  out.gv = at::empty_like(out.gk);
  if (r.defined()) out.gr = at::empty_like(out.gk);
  if (out.gk.numel() == 0) {
    out.gw = at::zeros_like(w);
    out.gu = at::zeros_like(u);
    return out;
  }
  const at::Tensor gy = gy_in.contiguous();
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, k.scalar_type(), "bi_wkv_backward", [&] {
    using T = at::opmath_type<scalar_t>;
    Launcher<T, scalar_t> launcher(w, u, k, v, r);
    launcher.also_reads(gy);
    // One sum for each chunk, then a plain sum over them: no atomics, so two runs give equal bits.
    const at::Tensor parts = launcher.scratch({2, launcher.shape().batch * launcher.shape().chunks, k.size(2)});
    const at::Tensor gw_parts = parts[0], gu_parts = parts[1];
    const auto pointer = [](const at::Tensor& tensor) { return tensor.mutable_data_ptr<scalar_t>(); };
    const auto run_gated = launcher.gated() ? run<true, T, scalar_t> : run<false, T, scalar_t>;
    run_gated(launcher, GradientPointers<T, scalar_t>{gy.const_data_ptr<scalar_t>(), pointer(out.gk), pointer(out.gv),
                                                      out.gr.defined() ? pointer(out.gr) : nullptr,
                                                      gw_parts.mutable_data_ptr<T>(), gu_parts.mutable_data_ptr<T>()});
    const at::Tensor sums = parts.sum(1);
    out.gw = sums[0].to(w.scalar_type());
    out.gu = sums[1].to(u.scalar_type());
  });
  return out;
}

}  // namespace vrwkv::ops::cuda
