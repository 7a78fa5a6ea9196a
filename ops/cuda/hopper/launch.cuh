#pragma once

#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>

#include <optional>

#include "ops/cuda/dependent_launch.cuh"
#include "ops/cuda/hopper/wgmma.cuh"
#include "ops/cuda/vector.cuh"

// What the launchers of the kernels for Hopper share.

namespace vrwkv::ops::cuda::hopper {

/// Whether a GPU runs the kernels: they are of sm_90a.
inline bool has_wgmma(at::Device device) {
  const cudaDeviceProp* const properties = at::cuda::getDeviceProperties(device.index());
  return properties->major == 9 && properties->minor == 0;
}

/// Whether `weight` is [rows, columns], beside `tokens`.
inline bool is_matrix(const at::Tensor& weight, int64_t rows, int64_t columns, const at::Tensor& tokens) {
  return weight.dim() == 2 && weight.size(0) == rows && weight.size(1) == columns && weight.device() == tokens.device();
}

/// Aligned and contiguous, as wide accesses want it.
inline at::Tensor ready(const at::Tensor& tensor, at::ScalarType dtype) { return aligned(tensor.to(dtype), 16); }
inline at::Tensor ready(const std::optional<at::Tensor>& tensor, at::ScalarType dtype) {
  return tensor ? ready(*tensor, dtype) : at::Tensor();
}

template <typename T>
const T* pointer(const at::Tensor& tensor) {
  return tensor.defined() ? static_cast<const T*>(tensor.const_data_ptr()) : nullptr;
}

inline __nv_bfloat16* output(const at::Tensor& tensor) {
  return static_cast<__nv_bfloat16*>(tensor.mutable_data_ptr());
}

struct Launch {
  dim3 blocks;
  int threads;
  int shared_bytes = 0;
  /// Beside the kernel before, once all of that one's blocks have ended or called admit_dependents(). What it wrote
  /// is there after await_predecessor().
  bool early = false;
  /// All blocks run at the same time, so that they can meet (a cooperative launch).
  bool together = false;
};

template <typename... Parameters, typename... Arguments>
void launch(void (*kernel)(Parameters...), const Launch& how, const Arguments&... arguments) {
  C10_CUDA_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, how.shared_bytes));
  cudaLaunchAttribute attributes[2]{};
  attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[0].val.programmaticStreamSerializationAllowed = how.early ? 1 : 0;
  attributes[1].id = cudaLaunchAttributeCooperative;
  attributes[1].val.cooperative = how.together ? 1 : 0;
  cudaLaunchConfig_t config{};
  config.gridDim = how.blocks;
  config.blockDim = static_cast<unsigned>(how.threads);
  config.dynamicSmemBytes = static_cast<size_t>(how.shared_bytes);
  config.stream = at::cuda::getCurrentCUDAStream();
  config.attrs = attributes;
  config.numAttrs = 2;
  C10_CUDA_CHECK(cudaLaunchKernelEx(&config, kernel, arguments...));
}

}  // namespace vrwkv::ops::cuda::hopper
