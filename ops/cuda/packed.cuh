#pragma once

#include <c10/util/BFloat16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <type_traits>

namespace vrwkv::ops::cuda {

/// kCount values of one thread, 16-bit ones two to a register. Indices must be compile-time constants (unrolled loops);
/// set() each of them once, in ascending order.
template <typename In, int kCount, bool k16Bit = sizeof(In) == 2>
class Packed {
 public:
  __device__ __forceinline__ void set(int i, In value) { values_[i] = value; }
  __device__ __forceinline__ In operator[](int i) const { return values_[i]; }

 private:
  In values_[kCount];
};

template <typename In, int kCount>
class Packed<In, kCount, true> {
 public:
  __device__ __forceinline__ void set(int i, In value) {
    const auto bits = static_cast<uint32_t>(value.x);
    pairs_[i / 2] = i % 2 == 0 ? bits : pairs_[i / 2] | bits << 16;
  }
  __device__ __forceinline__ float operator[](int i) const {
    const uint32_t pair = pairs_[i / 2];
    if constexpr (std::is_same_v<In, c10::BFloat16>) {
      return __uint_as_float(i % 2 == 0 ? pair << 16 : pair & 0xffff0000U);
    } else {
      return __half2float(__ushort_as_half(static_cast<unsigned short>(i % 2 == 0 ? pair & 0xffffU : pair >> 16)));
    }
  }

 private:
  uint32_t pairs_[(kCount + 1) / 2];
};

}  // namespace vrwkv::ops::cuda
