#pragma once

namespace vrwkv::ops::cuda {

/// 1 / (1 + e^-x)
template <typename T>
__device__ __forceinline__ T sigmoid(T x) {
  if constexpr (sizeof(T) == 4) {
    return __fdividef(1.0f, 1.0f + __expf(-x));  // 0 for x below -87, where e^{-x} is infinite.
  } else {
    return T(1) / (T(1) + ::exp(-x));
  }
}

}  // namespace vrwkv::ops::cuda
