#pragma once

#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>

#include <algorithm>
#include <optional>
#include <vector>

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

/// Whether all `weights` are so.
inline bool are_matrices(at::TensorList weights, int64_t rows, int64_t columns, const at::Tensor& tokens) {
  return std::all_of(weights.begin(), weights.end(),
                     [&](const at::Tensor& weight) { return is_matrix(weight, rows, columns, tokens); });
}

/// Aligned and contiguous, as wide accesses want it.
inline at::Tensor ready(const at::Tensor& tensor, at::ScalarType dtype) { return aligned(tensor.to(dtype), 16); }
inline at::Tensor ready(const std::optional<at::Tensor>& tensor, at::ScalarType dtype) {
  return tensor ? ready(*tensor, dtype) : at::Tensor();
}
inline std::vector<at::Tensor> ready(at::TensorList tensors, at::ScalarType dtype) {
  std::vector<at::Tensor> result;
  for (const at::Tensor& tensor : tensors) result.push_back(ready(tensor, dtype));
  return result;
}

template <typename T>
const T* pointer(const at::Tensor& tensor) {
  return tensor.defined() ? static_cast<const T*>(tensor.const_data_ptr()) : nullptr;
}

inline __nv_bfloat16* output(const at::Tensor& tensor) {
  return static_cast<__nv_bfloat16*>(tensor.mutable_data_ptr());
}

}  // namespace vrwkv::ops::cuda::hopper
