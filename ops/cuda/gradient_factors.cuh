#pragma once

#include <ATen/core/Tensor.h>

// Numbers that a kernel takes from the device: a recorded step follows them, and the host waits for none.

namespace vrwkv::ops::cuda {

/// The place of a 0-d float32 tensor on `device`.
inline const float* device_scalar(const char* op, const char* name, const at::Tensor& tensor, at::Device device) {
  TORCH_CHECK(tensor.dim() == 0 && tensor.scalar_type() == at::kFloat && tensor.device() == device, op, ": ", name,
              " must be a 0-d float32 tensor on ", device, ", got ", tensor.sizes(), " of ", tensor.scalar_type(),
              " on ", tensor.device());
  return tensor.const_data_ptr<float>();
}

/// What gradients are multiplied by as they are read: the inverse of a loss scale, then the coefficient of clipping.
struct GradientFactors {
  static constexpr int kMost = 2;
  const float* factors[kMost];  ///< Null: 1, which changes no bit.

  __device__ __forceinline__ float get(int i) const { return factors[i] == nullptr ? 1.0F : *factors[i]; }
};

inline GradientFactors gradient_factors(const char* op, at::TensorList factors, at::Device device) {
  TORCH_CHECK(factors.size() <= GradientFactors::kMost, op, ": at most ", GradientFactors::kMost,
              " factors are supported, got ", factors.size());
  GradientFactors result{};
  for (size_t i = 0; i < factors.size(); ++i) {
    result.factors[i] = device_scalar(op, "a factor", factors[i], device);
  }
  return result;
}

}  // namespace vrwkv::ops::cuda
