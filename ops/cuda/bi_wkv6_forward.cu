#include <ATen/Dispatch.h>
#include <c10/cuda/CUDAGuard.h>
#include <torch/library.h>

#include "ops/bi_wkv6_check.h"
#include "ops/cuda/bi_wkv6_narrow_launch.cuh"

namespace vrwkv::ops::cuda {
namespace {

template <typename T, typename In>
void forward_exact(const wkv6::Launcher<T, In>& launcher, In* y) {
  const auto inputs = launcher.inputs();
  const at::Tensor states = launcher.entry_states(inputs.k, inputs.v);
  const auto kernel = wkv6::forward_kernel<T, In>;
  const int64_t bytes = wkv6::forward_shared<T>(launcher.shape().segment) * static_cast<int64_t>(sizeof(T));
  launcher.allow(kernel, bytes);
  kernel<<<launcher.items(), wkv6::kThreads, static_cast<size_t>(bytes), launcher.stream()>>>(
      launcher.shape(), inputs, launcher.pointer(states), y);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
}

template <typename T, typename In>
void forward(const wkv6::Launcher<T, In>& launcher, In* y) {
  forward_exact(launcher, y);
}

void forward(const wkv6::NarrowLauncher& launcher, at::BFloat16* y) {
  wkv6::has_narrow_products() ? wkv6::narrow_forward(launcher, y) : forward_exact(launcher, y);
}

at::Tensor bi_wkv6_forward(const at::Tensor& r, const at::Tensor& k, const at::Tensor& v, const at::Tensor& w,
                           const at::Tensor& u) {
  check_bi_wkv6(r, k, v, w, u);
  const c10::cuda::CUDAGuard guard(k.device());
  at::Tensor y = at::empty_like(k, at::MemoryFormat::Contiguous);
  if (y.numel() == 0) return y;
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, k.scalar_type(), "bi_wkv6", [&] {
    const wkv6::Launcher<at::opmath_type<scalar_t>, scalar_t> launcher(r, k, v, w, u);
    forward(launcher, y.mutable_data_ptr<scalar_t>());
  });
  return y;
}

}  // namespace

TORCH_LIBRARY_IMPL(vrwkv, CUDA, m) { m.impl("bi_wkv6", bi_wkv6_forward); }

}  // namespace vrwkv::ops::cuda
