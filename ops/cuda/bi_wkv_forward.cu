#include <ATen/Dispatch.h>

#include "ops/cuda/bi_wkv_launch.cuh"

namespace vrwkv::ops::cuda {
namespace {

template <bool kGated, typename T, typename In>
void run(const Launcher<T, In>& launcher, In* y) {
  const Shape& shape = launcher.shape();
  const Inputs<T, In> inputs = launcher.inputs();
  if (shape.chunks == 1) {
    launcher.template launch<Exchange::none>(forward_kernel<T, In, Exchange::none, kGated>,
                                             launcher.template forward_tiles<Exchange::none>(), shape, inputs,
                                             GlobalSums<T>{nullptr}, y);
    return;
  }
  const int tiles = launcher.template forward_tiles<Exchange::global>();
  if constexpr (sizeof(T) == 4) {
    const auto kernel = forward_kernel<T, In, Exchange::cluster, kGated>;
    if (launcher.can_cluster(kernel, tiles)) {
      launcher.template launch<Exchange::cluster>(kernel, tiles, shape, inputs, GlobalSums<T>{nullptr}, y);
      return;
    }
  }
  const at::Tensor sums = launcher.chunk_sums();
  const GlobalSums<T> global = launcher.global(sums);
  launcher.template launch<Exchange::global>(totals_kernel<T, In>, tiles, shape, inputs, global);
  launcher.scan_chunks(sums);
  launcher.template launch<Exchange::global>(forward_kernel<T, In, Exchange::global, kGated>, tiles, shape, inputs,
                                             global, y);
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
