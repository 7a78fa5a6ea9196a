#pragma once

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <type_traits>

namespace vrwkv::ops::cuda {

/// `count` neighbouring values as they lie in memory, read and written in one access. As words, since the compiler
/// gives single 16-bit values a register each. Indices must be compile-time constants.
template <typename T, int count>
class Chunk {
 public:
  using Value = std::conditional_t<sizeof(T) == 8, double, float>;

  Chunk() = default;
  __device__ __forceinline__ explicit Chunk(uint32_t word) : words_{word} {
    static_assert(sizeof(T) == 2 && count == 2);
  }

  __device__ __forceinline__ Value operator[](int i) const {
    if constexpr (sizeof(T) >= 4) {
      return words_[i];
    } else {
      const uint32_t word = words_[i / 2];
      if constexpr (std::is_same_v<T, c10::BFloat16>) {
        return __uint_as_float(i % 2 == 0 ? word << 16 : word & 0xffff0000U);
      } else {
        return __half2float(__ushort_as_half(static_cast<unsigned short>(i % 2 == 0 ? word & 0xffffU : word >> 16)));
      }
    }
  }

  __device__ __forceinline__ static Chunk rounded(const Value* values) {
    Chunk chunk;
#pragma unroll
    for (int i = 0; i < kWords; ++i) {
      if constexpr (sizeof(T) >= 4) {
        chunk.words_[i] = values[i];
      } else if constexpr (count == 1) {
        chunk.words_[i] = T(values[i]).x;
      } else if constexpr (std::is_same_v<T, c10::BFloat16>) {
        const __nv_bfloat162 pair = __floats2bfloat162_rn(values[2 * i], values[2 * i + 1]);
        chunk.words_[i] = static_cast<uint32_t>(__bfloat16_as_ushort(pair.y)) << 16 | __bfloat16_as_ushort(pair.x);
      } else {
        const __half2 pair = __floats2half2_rn(values[2 * i], values[2 * i + 1]);
        chunk.words_[i] =
            static_cast<uint32_t>(__half_as_ushort(__high2half(pair))) << 16 | __half_as_ushort(__low2half(pair));
      }
    }
    return chunk;
  }

  /// Two 16-bit values as they lie in memory.
  __device__ __forceinline__ uint32_t word() const {
    static_assert(sizeof(T) == 2 && count == 2);
    return words_[0];
  }

 private:
  using Word16 = std::conditional_t<count == 1, uint16_t, uint32_t>;
  using Word = std::conditional_t<(sizeof(T) >= 4), T, Word16>;
  static constexpr int kWords = sizeof(T) * count / sizeof(Word);
  static_assert(sizeof(T) >= 4 || count == 1 || count % 2 == 0);
  alignas(sizeof(T) * count) Word words_[kWords];
};

/// The chunk that begins at `from`, which is aligned to it.
template <int count, typename T>
__device__ __forceinline__ Chunk<T, count> load_chunk(const T* from) {
  return *reinterpret_cast<const Chunk<T, count>*>(from);
}

/// Rounds `count` values into the chunk that begins at `to`.
template <int count, typename T>
__device__ __forceinline__ void store_chunk(T* to, const typename Chunk<T, count>::Value* values) {
  *reinterpret_cast<Chunk<T, count>*>(to) = Chunk<T, count>::rounded(values);
}

}  // namespace vrwkv::ops::cuda
