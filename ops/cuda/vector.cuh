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

constexpr int kParameterBytes = 16;  ///< Of a parameter, that a thread reads at once.

/// kVector values of a parameter, in wide reads: value by value, a warp's would lie 32 times as far apart.
template <typename T, int kVector>
__device__ __forceinline__ void load_parameter(T (&values)[kVector], const T* parameter, int first, T missing) {
  constexpr int kWide = kParameterBytes / static_cast<int>(sizeof(T));
  constexpr int kPiece = kVector < kWide ? kVector : kWide;
#pragma unroll
  for (int i = 0; i < kVector; i += kPiece) {
    Vector<T, kPiece> piece;
    if (parameter != nullptr) piece = load_vector<kPiece>(parameter + first + i);
#pragma unroll
    for (int c = 0; c < kPiece; ++c) values[i + c] = parameter == nullptr ? missing : piece.values[c];
  }
}

/// Whether `tensor` can be read `bytes` at a time.
inline bool is_aligned(const at::Tensor& tensor, uintptr_t bytes) {
  return reinterpret_cast<uintptr_t>(tensor.const_data_ptr()) % bytes == 0;
}

/// `tensor`, contiguous and readable `bytes` at a time: a copy where it is not so already.
inline at::Tensor aligned(const at::Tensor& tensor, uintptr_t bytes) {
  const at::Tensor contiguous = tensor.contiguous();
  return is_aligned(contiguous, bytes) ? contiguous : contiguous.clone();
}

}  // namespace vrwkv::ops::cuda
