#pragma once

#include "ops/cuda/hopper/weight_ring.cuh"

namespace vrwkv::ops::cuda::hopper {

constexpr int kShiftLinears = 3;
constexpr int kLinearGroups = 4;  ///< Warpgroups: as many as the registers of a product leave room for.
constexpr int kLinearStages = 5;
constexpr int kShiftLinearShared = ring_shared(kLinearGroups, kLinearStages);

struct ShiftLinear {
  ShiftedTokens from;
  const float* mixes[kShiftLinears];
  const unsigned char* packed;  ///< kShiftLinears matrices of kTileSlabs units.
  __nv_bfloat16* out[kShiftLinears];
};

/// sums = the product of a warpgroup's tile with the matrix whose units begin at `unit`.
template <int stages, int warps>
__device__ __forceinline__ void ring_product(RowSums& sums, const unsigned char* tile,
                                             const WeightRing<stages, warps>& ring, int unit) {
  static_assert(stages >= kTileSlabs);
#pragma unroll
  for (int slab = 0; slab < kTileSlabs; ++slab) ring.wait(unit + slab);
  begin_products();
#pragma unroll
  for (int slab = 0; slab < kTileSlabs; ++slab) {
    const unsigned char* const weights = ring.place(unit + slab);
#pragma unroll
    for (int step = 0; step < kSlab / kStep; ++step) {
      multiply(sums, factor(tile + slab * kRows * 128, step), factor(weights, step), slab > 0 || step > 0);
    }
  }
  end_products();
  wait_products<0>();
  hold(sums);
  for (int slab = 0; slab < kTileSlabs; ++slab) ring.release(unit + slab);
}

/// out_j = (n m_j + shift(n) (1 - m_j)) W_j^T
__global__ void __launch_bounds__(kLinearGroups* kWarpgroup, 1)
    shift_linear_kernel(const __grid_constant__ ShiftLinear arguments) {
  __shared__ RingState<kLinearStages> state;
  __shared__ alignas(16) MixFactors<kShiftLinears> factors;
  unsigned char* const shared = aligned_shared();
  const ShiftedTokens& from = arguments.from;
  const TileWalk<kLinearGroups> walk(from.count);
  const int tiles = walk.tiles();
  constexpr int kUnits = kShiftLinears * kTileSlabs;
  const WeightRing<kLinearStages, kLinearGroups * kWarpgroup / 32> ring{
      shared + kLinearGroups * tile_bytes(kRows), arguments.packed, kUnits, kUnits * tiles, state};
  if (threadIdx.x == 0) ring.start();
  const float* const mixes[kShiftLinears]{arguments.mixes[0], arguments.mixes[1], arguments.mixes[2]};
  factors.fill(from, mixes);
  __syncthreads();
  const int group = warpgroup();
  unsigned char* const tile = shared + group * tile_bytes(kRows);
  int unit = 0;
  for (int number = 0; number < tiles; ++number) {
    const int64_t first = walk.first(number, group);
    if (threadIdx.x % kWarpgroup == 0) {
      prefetch_rows(from.tokens, kRowBytes, walk.first(number + 1, group), from.count);
    }
    const TileRows rows(from, first);
#pragma unroll 1
    for (int j = 0; j < kShiftLinears; ++j, unit += kTileSlabs) {
      write_shifted_tiles<false>({tile}, from, factors, j, rows);
      sync_warpgroup();
      RowSums sums;
      clear(sums);
      ring_product(sums, tile, ring, unit);
      sync_warpgroup();  // The tile has been read.
      stage_rows(tile, sums);
      sync_warpgroup();
      copy_rows(arguments.out[j], tile, first, from.count);
      sync_warpgroup();  // So have the results.
    }
  }
}

}  // namespace vrwkv::ops::cuda::hopper
