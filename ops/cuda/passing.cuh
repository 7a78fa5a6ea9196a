#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "ops/cuda/chunk.cuh"

// Accesses to what is not read again soon: the caches give its place to others first.

namespace vrwkv::ops::cuda {

/// For copies and loads of what nobody reads after this: the second cache gives its place to others first.
__device__ __forceinline__ uint64_t last_read() {
  uint64_t policy;
  asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}

/// What a chunk of so many bytes is read and written as.
template <size_t bytes>
using PassingWords =
    std::conditional_t<bytes == 16, uint4,
                       std::conditional_t<bytes == 8, uint2, std::conditional_t<bytes == 4, unsigned, unsigned short>>>;

/// load_chunk() of such values.
template <int count, typename T>
__device__ __forceinline__ Chunk<T, count> load_passing(const T* from) {
  using Words = PassingWords<sizeof(Chunk<T, count>)>;
  static_assert(sizeof(Words) == sizeof(Chunk<T, count>));
  const Words words = __ldcs(reinterpret_cast<const Words*>(from));
  Chunk<T, count> chunk;
  std::memcpy(&chunk, &words, sizeof(chunk));
  return chunk;
}

/// store_chunk() of such values.
template <int count, typename T>
__device__ __forceinline__ void store_passing(T* to, const typename Chunk<T, count>::Value* values) {
  using Words = PassingWords<sizeof(Chunk<T, count>)>;
  static_assert(sizeof(Words) == sizeof(Chunk<T, count>));
  const Chunk<T, count> chunk = Chunk<T, count>::rounded(values);
  Words words;
  std::memcpy(&words, &chunk, sizeof(chunk));
  __stcs(reinterpret_cast<Words*>(to), words);
}

}  // namespace vrwkv::ops::cuda
