#include <c10/cuda/CUDAException.h>

#include "data/gpu/augment_image.h"
#include "data/gpu/kernels.h"

namespace vrwkv::data::gpu {
namespace {

constexpr int kThreads = 768;  // The most that leave a thread the 80 registers that it wants.

/// A block of CUDA's threads, as augment_image() wants one. The bodies are the device's alone, but augment_image() is
/// compiled for both sides.
struct CudaBlock {
  template <class Work>
  C10_HOST_DEVICE void each([[maybe_unused]] int count, [[maybe_unused]] const Work& work) const {
#ifdef __CUDA_ARCH__
    for (int i = static_cast<int>(threadIdx.x); i < count; i += kThreads) work(i);
    __syncthreads();
#endif
  }

  C10_HOST_DEVICE void add([[maybe_unused]] unsigned& counter) const {
#ifdef __CUDA_ARCH__
    atomicAdd(&counter, 1U);
#endif
  }

  template <class Term>
  C10_HOST_DEVICE void sum([[maybe_unused]] unsigned long long& total, [[maybe_unused]] int count,
                           [[maybe_unused]] const Term& term) const {
#ifdef __CUDA_ARCH__
    if (threadIdx.x == 0) total = 0;
    __syncthreads();
    unsigned long long part = 0;
    for (int i = static_cast<int>(threadIdx.x); i < count; i += kThreads) part += term(i);
    atomicAdd(&total, part);
    __syncthreads();
#endif
  }
};

__global__ void __launch_bounds__(kThreads)
    augment_kernel(const ImageTask* __restrict__ tasks, const ImageOperation* __restrict__ operations, int size) {
  __shared__ Shared shared;
  const ImageTask task = tasks[blockIdx.x];
  augment_image(CudaBlock{}, shared, operations + task.first, task.count, size, task.pixels, task.other);
}

}  // namespace

void launch_augment(const ImageTask* tasks, const ImageOperation* operations, int count, int size,
                    cudaStream_t stream) {
  augment_kernel<<<static_cast<unsigned>(count), kThreads, 0, stream>>>(tasks, operations, size);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
}

}  // namespace vrwkv::data::gpu
