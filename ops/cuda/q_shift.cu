#include <ATen/Dispatch.h>
#include <ATen/Functions.h>
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <torch/library.h>

#include <algorithm>

#include "ops/q_shift_geometry.h"

namespace vrwkv::ops::cuda {
namespace {

constexpr int kThreads = 256;

template <typename T>
__global__ void __launch_bounds__(kThreads)
    shift_kernel(const T* __restrict__ x, T* __restrict__ y, QShiftGeometry grid) {
  const int64_t total = grid.batch * grid.height * grid.width * grid.channels;
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kThreads;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < total; i += stride) {
    const int64_t channel = i % grid.channels;
    const int64_t token = i / grid.channels;
    int64_t column = token % grid.width;
    int64_t row = token / grid.width % grid.height;
    const int64_t image = token / (grid.width * grid.height);
    const int64_t within = channel % grid.group;
    const int64_t quarter = (within >= grid.bound(1)) + (within >= grid.bound(2)) + (within >= grid.bound(3));
    const bool inside = grid.source(quarter, row, column);
    y[i] = inside ? x[((image * grid.height + row) * grid.width + column) * grid.channels + channel] : T(0);
  }
}

at::Tensor shift(const at::Tensor& x_in, int64_t height, int64_t width, int64_t direction,
                 std::optional<int64_t> group) {
  const QShiftGeometry grid = check_q_shift(x_in, height, width, direction, group);
  const c10::cuda::CUDAGuard guard(x_in.device());
  const at::Tensor x = x_in.contiguous();
  at::Tensor y = at::empty_like(x);
  if (y.numel() == 0) return y;
  const auto blocks = static_cast<int>(std::min<int64_t>((y.numel() + kThreads - 1) / kThreads, 1 << 20));
  const auto stream = at::cuda::getCurrentCUDAStream();
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, x.scalar_type(), "q_shift", [&] {
    shift_kernel<scalar_t>
        <<<blocks, kThreads, 0, stream>>>(x.const_data_ptr<scalar_t>(), y.mutable_data_ptr<scalar_t>(), grid);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  });
  return y;
}

}  // namespace

TORCH_LIBRARY_IMPL(vrwkv, CUDA, m) { m.impl("_q_shift", shift); }

}  // namespace vrwkv::ops::cuda
