#include <c10/cuda/CUDAException.h>

#include "data/gpu/kernels.h"

namespace vrwkv::data::gpu {
namespace {

constexpr int kThreads = 256;

__global__ void __launch_bounds__(kThreads) narrow_kernel(const ViewTask* __restrict__ tasks) {
  const ViewTask task = tasks[blockIdx.y];
  const int index = blockIdx.x * kThreads + threadIdx.x;
  if (index < task.height * task.size) narrow_pixel(task, index);
}

__global__ void __launch_bounds__(kThreads) finish_kernel(const ViewTask* __restrict__ tasks) {
  const ViewTask task = tasks[blockIdx.y];
  const int index = blockIdx.x * kThreads + threadIdx.x;
  if (index < task.size * task.size) finish_pixel(task, index);
}

dim3 grid(int pixels, int images) {
  return dim3(static_cast<unsigned>((pixels + kThreads - 1) / kThreads), static_cast<unsigned>(images));
}

}  // namespace

void launch_resize(const ViewTask* tasks, int count, int max_height, int size, cudaStream_t stream) {
  narrow_kernel<<<grid(max_height * size, count), kThreads, 0, stream>>>(tasks);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  finish_kernel<<<grid(size * size, count), kThreads, 0, stream>>>(tasks);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
}

}  // namespace vrwkv::data::gpu
