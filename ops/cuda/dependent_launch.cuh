#pragma once

#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>

// Two kernels of which the second waits for the first on the device (programmatic dependent launch, from compute
// capability 9.0 on): its blocks are in their places when the first one ends, which saves most of the way there. A
// kernel that does both admits others behind its own wait: when one starts, all up to the one before its predecessor
// has ended.

namespace vrwkv::ops::cuda {

/// In the first kernel: the next one's blocks may come as soon as there is room for them.
__device__ __forceinline__ void admit_dependents() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
#endif
}

/// In the second kernel, before it reads or writes memory: waits for the end of the first. Anything may be the first.
__device__ __forceinline__ void await_predecessor() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

struct Launch {
  dim3 grid, block;
  size_t shared = 0;  ///< Bytes of a block.
};

/// Launches a kernel that calls await_predecessor().
template <typename... Parameters, typename... Arguments>
void launch_dependent(void (*kernel)(Parameters...), const Launch& launch, const Arguments&... arguments) {
  cudaLaunchAttribute overlap{};
  overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  overlap.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = launch.grid;
  config.blockDim = launch.block;
  config.dynamicSmemBytes = launch.shared;
  config.stream = at::cuda::getCurrentCUDAStream();
  config.attrs = &overlap;
  config.numAttrs = at::cuda::getCurrentDeviceProperties()->major >= 9 ? 1 : 0;
  C10_CUDA_CHECK(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...));
}

}  // namespace vrwkv::ops::cuda
