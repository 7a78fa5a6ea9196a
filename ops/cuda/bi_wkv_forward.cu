#include <ATen/Dispatch.h>

#include "ops/cuda/bi_wkv_launch.cuh"

namespace vrwkv::ops::cuda {
namespace {

template <typename T, typename In>
using ForwardLauncher = Launcher<T, In, Pass::forward>;

template <bool kGated, typename T, typename In>
void run(const ForwardLauncher<T, In>& launcher, const at::Tensor& incoming, In* y) {
  const Shape& shape = launcher.shape();
  if (shape.chunks == 1) {
    launcher.launch(forward_kernel<T, In, kGated>, launcher.template forward_tiles<Exchange::none>(), shape,
                    launcher.inputs(), y);
    return;
  }
  launcher.template launch_two_passes<kGated>(two_pass_kernel<T, In, kGated>, launcher.pointer(incoming), y);
}

}  // namespace

BiWkvOutput bi_wkv_forward(const at::Tensor& w, const at::Tensor& u, const at::Tensor& k, const at::Tensor& v,
                           const at::Tensor& r, bool keeps_sums) {
  BiWkvOutput out{at::empty_like(k, at::MemoryFormat::Contiguous), {}};
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, k.scalar_type(), "bi_wkv", [&] {
    using T = at::opmath_type<scalar_t>;
    const ForwardLauncher<T, scalar_t> launcher(w, u, k, v, r);
    const at::Tensor incoming = launcher.chunk_sums();
    if (keeps_sums) out.sums = incoming;
    if (out.y.numel() == 0) return;
    const auto run_gated = launcher.gated() ? run<true, T, scalar_t> : run<false, T, scalar_t>;
    run_gated(launcher, incoming, out.y.mutable_data_ptr<scalar_t>());
  });
  return out;
}

}  // namespace vrwkv::ops::cuda
