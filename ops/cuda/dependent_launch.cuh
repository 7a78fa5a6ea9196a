#pragma once

#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>

// Kernels that wait for the one before on the device (programmatic dependent launch, from compute capability 9.0 on):
// their blocks are in their places when that one's last blocks end, which saves most of the way there.
//
// Such a kernel calls await_predecessor() before it reads or writes memory, and admit_dependents() behind that. So when
// a kernel starts, everything up to the one before its predecessor has ended. Nor does it ask for whole tensors to be
// brought to the second cache before it has waited: that drives out what the predecessor still reads.
//
// Whether a launch is early is measured for each: many kernels whose blocks take a multiprocessor each gain nothing and
// lose about 1 % of a step, those behind blocks that meet even more in some runs (docs/performance.md).

namespace vrwkv::ops::cuda {

/// The next kernel's blocks may come as soon as there is room for them.
__device__ __forceinline__ void admit_dependents() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
#endif
}

/// Waits for the end of the kernel before, whatever that is.
__device__ __forceinline__ void await_predecessor() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/// Both, for kernels that have nothing to do meanwhile.
__device__ __forceinline__ void start_in_turn() {
  await_predecessor();
  admit_dependents();
}

struct Launch {
  dim3 blocks, threads;
  int shared_bytes = 0;
  bool early = false;     ///< Beside the kernel before: for kernels that call await_predecessor().
  bool together = false;  ///< All blocks run at the same time, so that they can meet (a cooperative launch).
};

/// Lets the blocks of `kernel` have so much shared memory.
template <typename Kernel>
void allow_shared_memory(Kernel kernel, int bytes) {
  constexpr int kAlwaysThere = 48 * 1024;
  if (bytes > kAlwaysThere) {
    C10_CUDA_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
  }
}

template <typename... Parameters, typename... Arguments>
void launch(void (*kernel)(Parameters...), const Launch& how, const Arguments&... arguments) {
  allow_shared_memory(kernel, how.shared_bytes);
  cudaLaunchAttribute attributes[2]{};
  attributes[0].id = cudaLaunchAttributeCooperative;
  attributes[0].val.cooperative = how.together ? 1 : 0;
  attributes[1].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[1].val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = how.blocks;
  config.blockDim = how.threads;
  config.dynamicSmemBytes = static_cast<size_t>(how.shared_bytes);
  config.stream = at::cuda::getCurrentCUDAStream();
  config.attrs = attributes;
  config.numAttrs = how.early && at::cuda::getCurrentDeviceProperties()->major >= 9 ? 2 : 1;
  C10_CUDA_CHECK(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...));
}

/// Launches a kernel that calls await_predecessor().
template <typename... Parameters, typename... Arguments>
void launch_dependent(void (*kernel)(Parameters...), dim3 blocks, dim3 threads, const Arguments&... arguments) {
  launch(kernel, {blocks, threads, 0, /*early=*/true}, arguments...);
}

}  // namespace vrwkv::ops::cuda
