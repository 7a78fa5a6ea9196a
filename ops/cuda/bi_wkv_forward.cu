#include <ATen/Dispatch.h>

#include "ops/cuda/bi_wkv_launch.cuh"

namespace vrwkv::ops::cuda {
namespace {

template <bool kGated, typename T, typename In>
void run(const Launcher<T, In>& launcher, In* y) {
  const Shape& shape = launcher.shape();
  const Inputs<T, In> inputs = launcher.inputs();
  const int tiles = launcher.forward_tiles();
  if (shape.chunks == 1) {
    launcher.launch(forward_kernel<T, In, Exchange::none, kGated>, tiles, shape, inputs, GlobalSums<T>{}, y);
    return;
  }
  const typename Launcher<T, In>::Exchanges exchanges(launcher, 1);
  if constexpr (sizeof(T) == 4) {
    const auto kernel = forward_kernel<T, In, Exchange::running, kGated>;
    if (const int64_t blocks = launcher.running_blocks(kernel, tiles); blocks > 0) {
      launcher.launch_running(kernel, tiles, blocks, shape, inputs, exchanges[0], y);
      return;
    }
  }
  launcher.launch(totals_kernel<T, In>, tiles, shape, inputs, exchanges[0]);
  launcher.launch(forward_kernel<T, In, Exchange::former, kGated>, tiles, shape, inputs, exchanges[0], y);
}

}  // namespace

at::Tensor bi_wkv_forward(const at::Tensor& w, const at::Tensor& u, const at::Tensor& k, const at::Tensor& v,
                          const at::Tensor& r) {
  at::Tensor y = at::empty_like(k, at::MemoryFormat::Contiguous);
  if (y.numel() == 0) return y;
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, k.scalar_type(), "bi_wkv", [&] {
    const Launcher<at::opmath_type<scalar_t>, scalar_t> launcher(w, u, k, v, r);
    const auto run_gated = launcher.gated() ? run<true, at::opmath_type<scalar_t>, scalar_t>
                                            : run<false, at::opmath_type<scalar_t>, scalar_t>;
    run_gated(launcher, y.mutable_data_ptr<scalar_t>());
  });
  return y;
}

}  // namespace vrwkv::ops::cuda
