#pragma once

#include "ops/cuda/fast_math.cuh"

namespace vrwkv::ops::cuda {

/// 1 / (1 + e^-x); of float to about 22 bits, the ends of the range included.
template <typename T>
__device__ __forceinline__ T sigmoid(T x) {
  if constexpr (sizeof(T) == 4) {
    return fast_reciprocal(1.0F + fast_exp(-x));
  } else {
    return T(1) / (T(1) + ::exp(-x));
  }
}

}  // namespace vrwkv::ops::cuda
