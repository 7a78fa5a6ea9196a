#pragma once

#include "ops/cuda/hopper/weight_ring.cuh"

namespace vrwkv::ops::cuda::hopper {

constexpr int kShiftLinears = 3;
constexpr int kLinearStages = 3;
constexpr int kShiftLinearShared = ring_shared(kShiftLinears, kLinearStages);

struct ShiftLinear {
  ShiftedTokens from;
  const float* mixes[kShiftLinears];
  const unsigned char* packed;  ///< kShiftLinears matrices of kTileSlabs units.
  __nv_bfloat16* out[kShiftLinears];
};

/// Starts the product of a warpgroup's tile with the matrix whose units begin at `unit`.
template <int stages>
__device__ __forceinline__ void start_ring_product(RowSums& sums, const unsigned char* tile,
                                                   const WeightRing<stages>& ring, int unit) {
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
}

/// out_j = (n m_j + shift(n) (1 - m_j)) W_j^T
__global__ void __launch_bounds__(kRingThreads, 1) shift_linear_kernel(const __grid_constant__ ShiftLinear arguments) {
  __shared__ RingBarriers<kLinearStages> barriers;
  __shared__ alignas(16) MixFactors<kShiftLinears> factors;
  unsigned char* const shared = aligned_shared();
  unsigned char* const tiles[kShiftLinears]{shared, shared + tile_bytes(kTileTokens),
                                            shared + 2 * tile_bytes(kTileTokens)};
  const WeightRing<kLinearStages> ring{shared + kShiftLinears * tile_bytes(kTileTokens), barriers};
  const ShiftedTokens& from = arguments.from;
  const float* const mixes[kShiftLinears]{arguments.mixes[0], arguments.mixes[1], arguments.mixes[2]};
  factors.fill(from, mixes);
  int unit = 0;
  run_ring(
      ring, arguments.packed, kShiftLinears * kTileSlabs, from.count,
      [&](int64_t first) {
        prefetch_rows(from.tokens, kChannels * 2, first + static_cast<int64_t>(gridDim.x) * kTileTokens, from.count,
                      kTileTokens);
      },
      [&](int64_t first, int warpgroup) {
        write_shifted_tiles<kTileTokens, kConsumers, kShiftLinears>(tiles, from, factors, first);
        sync_threads<1, kConsumers>();
        const int64_t own = first + warpgroup * kRows;
#pragma unroll 1
        for (int j = 0; j < kShiftLinears; ++j, unit += kTileSlabs) {
          unsigned char* const tile = shared + j * tile_bytes(kTileTokens) + warpgroup * tile_bytes(kRows);
          RowSums sums;
          start_ring_product(sums, tile, ring, unit);
          wait_products<0>();
          hold(sums);
          for (int slab = 0; slab < kTileSlabs; ++slab) ring.release(unit + slab);
          sync_warpgroup();  // The tile has been read.
          stage_rows(tile, sums);
          copy_rows(arguments.out[j], tile, own, from.count);
        }
        sync_threads<1, kConsumers>();  // The tiles have been read.
      });
}

}  // namespace vrwkv::ops::cuda::hopper
