#include <ATen/Dispatch.h>
#include <c10/cuda/CUDAGuard.h>
#include <torch/library.h>

#include "ops/bi_wkv6_check.h"
#include "ops/cuda/bi_wkv6_narrow_launch.cuh"

namespace vrwkv::ops::cuda {
namespace {

template <typename T, typename In>
void backward_exact(const wkv6::Launcher<T, In>& launcher, const wkv6::Gradients<T, In>& gradients) {
  const auto inputs = launcher.inputs();
  const at::Tensor states = launcher.entry_states(inputs.k, inputs.v);
  const at::Tensor adjoints = launcher.entry_states(inputs.r, gradients.gy);
  const auto kernel = wkv6::backward_kernel<T, In>;
  const int64_t bytes = wkv6::backward_shared<T>() * static_cast<int64_t>(sizeof(T));
  const int64_t blocks = launcher.resident(kernel, wkv6::kThreads, bytes);
  at::Tensor scratch = launcher.scratch({blocks, wkv6::backward_scratch<T>(launcher.shape().segment)});
  kernel<<<static_cast<unsigned>(blocks), wkv6::kThreads, static_cast<size_t>(bytes), launcher.stream()>>>(
      launcher.shape(), inputs, gradients, launcher.pointer(states), launcher.pointer(adjoints),
      scratch.mutable_data_ptr<T>());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
}

template <typename T, typename In>
void backward(const wkv6::Launcher<T, In>& launcher, const wkv6::Gradients<T, In>& gradients) {
  backward_exact(launcher, gradients);
}

void backward(const wkv6::NarrowLauncher& launcher, const wkv6::Gradients<float, at::BFloat16>& gradients) {
  wkv6::has_narrow_products() ? wkv6::narrow_backward(launcher, gradients) : backward_exact(launcher, gradients);
}

BiWkv6Gradients bi_wkv6_backward(const at::Tensor& r, const at::Tensor& k, const at::Tensor& v, const at::Tensor& w,
                                 const at::Tensor& u, const at::Tensor& gy_in) {
  check_bi_wkv6_backward(r, k, v, w, u, gy_in);
  const c10::cuda::CUDAGuard guard(k.device());
  const auto like_k = [&] { return at::empty_like(k, at::MemoryFormat::Contiguous); };
  at::Tensor gr = like_k(), gk = like_k(), gv = like_k();
  if (k.numel() == 0) return {gr, gk, gv, at::zeros_like(w), at::zeros_like(u)};
  at::Tensor gw, gu;
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, k.scalar_type(), "bi_wkv6_backward", [&] {
    using T = at::opmath_type<scalar_t>;
    const wkv6::Launcher<T, scalar_t> launcher(r, k, v, w, u);
    const auto& shape = launcher.shape();
    const at::Tensor gy = launcher.readable(gy_in);
    gw = launcher.scratch(k.sizes());
    at::Tensor gu_parts = launcher.scratch({shape.batch, shape.heads, shape.segments, wkv6::kSide});
    const wkv6::Gradients<T, scalar_t> gradients{
        gy.template const_data_ptr<scalar_t>(), gr.mutable_data_ptr<scalar_t>(), gk.mutable_data_ptr<scalar_t>(),
        gv.mutable_data_ptr<scalar_t>(),        gw.mutable_data_ptr<T>(),        gu_parts.mutable_data_ptr<T>()};
    backward(launcher, gradients);
    gu = gu_parts.sum(at::IntArrayRef{0, 2});
  });
  return {gr, gk, gv, gw.to(w.scalar_type()), gu.to(u.scalar_type())};
}

}  // namespace

TORCH_LIBRARY_IMPL(vrwkv, CUDA, m) { m.impl("_bi_wkv6_backward", bi_wkv6_backward); }

}  // namespace vrwkv::ops::cuda
