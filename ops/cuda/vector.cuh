#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace vrwkv::ops::cuda {

/// kCount values that one thread reads or writes at once.
template <typename T, int kCount>
struct alignas(sizeof(T) * kCount) Vector {
  T values[kCount];
};

template <int kCount, typename T>
__device__ __forceinline__ Vector<T, kCount> load_vector(const T* from) {
  return *reinterpret_cast<const Vector<T, kCount>*>(from);
}

template <int kCount, typename T>
__device__ __forceinline__ void store_vector(T* to, const Vector<T, kCount>& vector) {
  *reinterpret_cast<Vector<T, kCount>*>(to) = vector;
}

/// Whether `tensor` can be read `bytes` at a time.
inline bool is_aligned(const at::Tensor& tensor, uintptr_t bytes) {
  return reinterpret_cast<uintptr_t>(tensor.const_data_ptr()) % bytes == 0;
}

}  // namespace vrwkv::ops::cuda
