#include <ATen/Dispatch.h>

#include "ops/cuda/bi_wkv_launch.cuh"
#include "ops/cuda/column_sums.cuh"

namespace vrwkv::ops::cuda {
namespace {

template <bool kGated, typename T, typename In>
void run(const Launcher<T, In>& launcher, const GradientPointers<T, In>& gradients) {
  const Shape& shape = launcher.shape();
  const Inputs<T, In> inputs = launcher.inputs();
  const int tiles = launcher.template backward_tiles<false>();
  if (shape.chunks == 1) {
    launcher.launch(backward_kernel<T, In, Exchange::none, kGated, false>, tiles, shape, inputs, GlobalSums<T>{},
                    GlobalSums<T>{}, gradients);
    return;
  }
  const typename Launcher<T, In>::Exchanges exchanges(launcher, 2);
  if constexpr (sizeof(T) == 4) {
    const auto kernel = backward_kernel<T, In, Exchange::running, kGated, false>;
    if (const int64_t blocks = launcher.running_blocks(kernel, tiles); blocks > 0) {
      launcher.launch_running(kernel, tiles, blocks, shape, inputs, exchanges[0], exchanges[1], gradients);
      return;
    }
  }
  launcher.launch(totals_kernel<T, In>, launcher.forward_tiles(), shape, inputs, exchanges[0]);
  launcher.launch(backward_kernel<T, In, Exchange::former, kGated, true>, launcher.template backward_tiles<true>(),
                  shape, inputs, exchanges[0], exchanges[1], gradients);
  launcher.launch(backward_kernel<T, In, Exchange::former, kGated, false>, tiles, shape, inputs, exchanges[0],
                  exchanges[1], gradients);
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
    const at::Tensor sums = column_sums(parts, 1);
    out.gw = sums[0].to(w.scalar_type());
    out.gu = sums[1].to(u.scalar_type());
  });
  return out;
}

}  // namespace vrwkv::ops::cuda
