#pragma once

#include "ops/cuda/hopper/shifted_rows.cuh"

// Tiles of tokens in shared memory: which rows and channels of them a thread brings.

namespace vrwkv::ops::cuda::hopper {

/// The rows of a tile of kRows tokens that a thread of a warpgroup works at, eight threads to a row: kRowsAtOnce apart.
struct TileRows {
  static constexpr int kPerRow = 8, kRowsAtOnce = kWarpgroup / kPerRow, kEach = kRows / kRowsAtOnce;

  const __nv_bfloat16* here;  ///< The first one's tokens.
  unsigned edges = 0;         ///< Neighbours of each, four bits.
  int existing = 0;           ///< How many there are.

  __device__ __forceinline__ TileRows(const ShiftedTokens& from, int64_t first)
      : here(from.tokens + (first + row()) * kChannels) {
    GridPlace place(from, static_cast<unsigned>(first + row()));
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      if (first + row() + i * kRowsAtOnce >= from.count) break;
      ++existing;
      edges |= place.neighbours() << (4 * i);
      place.advance(kRowsAtOnce);
    }
  }

  static __device__ __forceinline__ int row() { return static_cast<int>(threadIdx.x) % kWarpgroup / kPerRow; }
  static __device__ __forceinline__ int piece() { return static_cast<int>(threadIdx.x) % kPerRow; }
};

/// The thread's vector of a row's slab `slab`, and from which neighbour the shift reads its channels: 0 the left one, 1
/// the right, 2 the upper, 3 the lower one.
__device__ __forceinline__ int tile_vector(int slab) { return TileRows::kPerRow * slab + TileRows::piece(); }
__device__ __forceinline__ int tile_group(int slab) { return tile_vector(slab) / (kVectors / 4); }

}  // namespace vrwkv::ops::cuda::hopper
