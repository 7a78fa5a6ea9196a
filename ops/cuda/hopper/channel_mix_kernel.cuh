#pragma once

#include "ops/cuda/hopper/shift_linear_kernel.cuh"
#include "ops/cuda/sigmoid.cuh"

namespace vrwkv::ops::cuda::hopper {

constexpr int kHiddenChunk = kSlab;  ///< Hidden channels computed at once.

constexpr int kMixGroups = 2;              ///< Warpgroups of a block.
constexpr int kMixTiles = 2 * kMixGroups;  ///< Each has its tokens mixed for the key and for the receptance.
constexpr int kMixStages = 5;
constexpr int kMixShared = ring_shared(kMixTiles, kMixStages);
using MixRing = WeightRing<kMixStages, kMixGroups * kWarpgroup / 32>;

struct ChannelMix {
  ShiftedTokens from;
  const float *mix_k, *mix_r;
  /// For each chunk of hidden channels a unit of the key and one of the value; then the receptance's three, by rows.
  const unsigned char* packed;
  int chunks;
  Residual residual;
};

/// relu(hidden)^2 as the left factor of four steps. A NaN stays one.
__device__ __forceinline__ void square(uint32_t (&keys)[4][4], const Sums<kHiddenChunk>& hidden) {
  const auto squared = [](float x) {
    float relu;
    asm("max.NaN.f32 %0, %1, 0f00000000;" : "=f"(relu) : "f"(x));
    return relu * relu;
  };
#pragma unroll
  for (int step = 0; step < 4; ++step) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float* const values = hidden.values + 8 * step + 2 * i;
      keys[step][i] = rounded_pair(squared(values[0]), squared(values[1]));
      asm volatile("" : "+r"(keys[step][i])::"memory");  // Written before the products begin.
    }
  }
}

/// relu(tile key^T)^2 value^T of one warpgroup's 64 tokens, chunk by chunk of the hidden channels.
__device__ __forceinline__ void mix_hidden(RowSums& out, const unsigned char* tile, int chunks, const MixRing& ring,
                                           int& unit) {
  Sums<kHiddenChunk> hidden;
  clear(hidden);
  const unsigned char* key = ring.wait(unit);
  begin_products();
  start_product<kSteps>(hidden, tile, key);
  end_products();
#pragma unroll 1
  for (int chunk = 0; chunk < chunks; ++chunk, unit += 2) {
    wait_products<0>();
    hold(hidden);
    if (chunk > 0) ring.release(unit - 1);  // The value's unit of the chunk before.
    ring.release(unit);
    uint32_t keys[4][4];
    square(keys, hidden);
    const unsigned char* const value = ring.wait(unit + 1);
    begin_products();
#pragma unroll
    for (int step = 0; step < 4; ++step) multiply(out, keys[step], factor(value, step), chunk > 0 || step > 0);
    end_products();
    if (chunk + 1 < chunks) {
      key = ring.wait(unit + 2);
      begin_products();
      start_product<kSteps>(hidden, tile, key);
      end_products();
    }
  }
  wait_products<0>();
  hold(out);
  ring.release(unit - 1);
}

/// out *= sigmoid(tile receptance^T), slab by slab of the channels.
__device__ __forceinline__ void gate_rows(RowSums& out, const unsigned char* tile, const MixRing& ring, int& unit) {
#pragma unroll
  for (int slab = 0; slab < kTileSlabs; ++slab, ++unit) {
    Sums<kSlab> gate;
    clear(gate);
    const unsigned char* const weights = ring.wait(unit);
    begin_products();
    start_product<kSteps>(gate, tile, weights);
    end_products();
    wait_products<0>();
    hold(gate);
    ring.release(unit);
#pragma unroll
    for (int i = 0; i < Sums<kSlab>::kCount; ++i) out.values[slab * Sums<kSlab>::kCount + i] *= sigmoid(gate.values[i]);
  }
}

/// A whole channel mix: neither the hidden channels nor the mixes leave the multiprocessor.
__global__ void __launch_bounds__(kMixGroups* kWarpgroup, 1)
    channel_mix_kernel(const __grid_constant__ ChannelMix arguments) {
  __shared__ RingState<kMixStages> state;
  __shared__ alignas(16) MixFactors<2> factors;
  unsigned char* const shared = aligned_shared();
  const ShiftedTokens& from = arguments.from;
  const Residual& residual = arguments.residual;
  const TileWalk<kMixGroups> walk(from.count);
  const int tiles = walk.tiles(), units = 2 * arguments.chunks + kTileSlabs;
  const MixRing ring{shared + kMixTiles * tile_bytes(kRows), arguments.packed, units, units * tiles, state};
  if (threadIdx.x == 0) ring.start();
  const float* const mixes[2]{arguments.mix_k, arguments.mix_r};
  factors.fill(from, mixes);
  __syncthreads();
  const int group = warpgroup();
  unsigned char* const key_tile = shared + 2 * group * tile_bytes(kRows);
  unsigned char* const gate_tile = key_tile + tile_bytes(kRows);
  int unit = 0;
  for (int number = 0; number < tiles; ++number) {
    const int64_t first = walk.first(number, group);
    if (threadIdx.x % kWarpgroup == 0) {
      prefetch_rows(residual.x, kChannels * 4, first, from.count);
      prefetch_rows(from.tokens, kRowBytes, walk.first(number + 1, group), from.count);
    }
    write_shifted_tiles<true>({key_tile, gate_tile}, from, factors, 0, TileRows(from, first));
    sync_warpgroup();
    RowSums out;
    clear(out);
    mix_hidden(out, key_tile, arguments.chunks, ring, unit);
    gate_rows(out, gate_tile, ring, unit);
    RowBatch batch;
    batch.load(residual, warp_row(first));
    sync_warpgroup();  // The tiles have been read.
    stage_rows(gate_tile, out);
    sync_warpgroup();
    finish_branch(gate_tile, batch, residual, first);
    sync_warpgroup();  // So have the results.
  }
}

}  // namespace vrwkv::ops::cuda::hopper
