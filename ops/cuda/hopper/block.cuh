#pragma once

#include "ops/cuda/hopper/wgmma.cuh"
#include "ops/cuda/vector.cuh"

// What the kernels of this directory have in common: vectors of bfloat16 and blocks of warpgroups.

namespace vrwkv::ops::cuda::hopper {

constexpr int kVector = 8;  ///< Channels that a thread reads at once.
using Bits = Vector<uint32_t, kVector / 2>;

__device__ __forceinline__ float low(uint32_t pair) { return __uint_as_float(pair << 16); }
__device__ __forceinline__ float high(uint32_t pair) { return __uint_as_float(pair & 0xffff0000U); }

/// Stores a piece at once: the compiler splits an assignment where there is a condition into four.
__device__ __forceinline__ void store_piece(__nv_bfloat16* to, const Bits& piece) {
  asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(to), "r"(piece.values[0]), "r"(piece.values[1]),
               "r"(piece.values[2]), "r"(piece.values[3])
               : "memory");
}

__device__ __forceinline__ void store_piece(float* to, const Vector<float, 4>& piece) {
  asm volatile("st.global.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(to), "f"(piece.values[0]), "f"(piece.values[1]),
               "f"(piece.values[2]), "f"(piece.values[3])
               : "memory");
}

__device__ __forceinline__ unsigned char* aligned_shared() {
  extern __shared__ unsigned char shared[];
  return shared + (kSlabAlign - shared_address(shared) % kSlabAlign) % kSlabAlign;
}

/// Uniform within a warp, as the compiler must see.
__device__ __forceinline__ int warp_in_block() {
  return __shfl_sync(0xffffffffU, static_cast<int>(threadIdx.x) / 32, 0);
}
__device__ __forceinline__ int warpgroup() { return warp_in_block() / (kWarpgroup / 32); }

/// The warpgroups of a block have barriers of their own; all warps of one call this.
__device__ __forceinline__ void sync_warpgroup() {
  asm volatile("bar.sync %0, %1;" ::"r"(2 + static_cast<int>(threadIdx.x) / kWarpgroup), "n"(kWarpgroup) : "memory");
}

/// Leaves a thread of the warpgroup `count` registers; others take them, up to as many as the block was launched with.
template <int count>
__device__ __forceinline__ void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(count));
}
template <int count>
__device__ __forceinline__ void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(count));
}

/// Asks for the rows of a warpgroup's share, of `bytes` each, ahead of their use. By one of its threads.
__device__ __forceinline__ void prefetch_rows(const void* tensor, int bytes, int64_t first, int64_t count) {
  const int64_t existing = count - first < kRows ? count - first : kRows;
  if (existing > 0) {
    prefetch(static_cast<const unsigned char*>(tensor) + first * bytes, static_cast<int>(existing) * bytes);
  }
}

}  // namespace vrwkv::ops::cuda::hopper
