#pragma once

#include "ops/cuda/fast_math.cuh"
#include "ops/cuda/hopper/shift_linear_kernel.cuh"

namespace vrwkv::ops::cuda::hopper {

constexpr int kHiddenChunk = kSlab;  ///< Hidden channels computed at once.
constexpr int kMixStages = 4;
constexpr int kMixShared = ring_shared(2, kMixStages);
using MixRing = WeightRing<kMixStages>;

struct ChannelMix {
  ShiftedTokens from;
  const float *mix_k, *mix_r;
  /// For each chunk of hidden channels a unit of the key and one of the value; then the receptance's three.
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

/// To about 22 bits; the ends of the range included.
__device__ __forceinline__ float sigmoid(float x) {
  constexpr float kMinusLog2E = -1.44269504F;
  return fast_reciprocal(1.0F + fast_exp2(x * kMinusLog2E));
}

/// relu(tile key^T)^2 value^T of one warpgroup's 64 tokens, chunk by chunk of the hidden channels.
__device__ __forceinline__ void mix_hidden(RowSums& out, const unsigned char* tile, int chunks, const MixRing& ring,
                                           int& unit) {
  Sums<kHiddenChunk> hidden;
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

/// A whole channel mix of tiles of 128 tokens: neither the hidden channels nor the mixes leave the multiprocessor.
__global__ void __launch_bounds__(kRingThreads, 1) channel_mix_kernel(const __grid_constant__ ChannelMix arguments) {
  __shared__ RingBarriers<kMixStages> barriers;
  __shared__ alignas(16) MixFactors<2> factors;
  unsigned char* const shared = aligned_shared();
  unsigned char* const tiles[2]{shared, shared + tile_bytes(kTileTokens)};
  const MixRing ring{shared + 2 * tile_bytes(kTileTokens), barriers};
  const ShiftedTokens& from = arguments.from;
  const Residual& residual = arguments.residual;
  const float* const mixes[2]{arguments.mix_k, arguments.mix_r};
  factors.fill(from, mixes);
  int unit = 0;
  run_ring(
      ring, arguments.packed, 2 * arguments.chunks + kTileSlabs, from.count,
      [&](int64_t first) {
        prefetch_rows(residual.x, kChannels * 4, first, from.count, kTileTokens);
        prefetch_rows(from.tokens, kChannels * 2, first + static_cast<int64_t>(gridDim.x) * kTileTokens, from.count,
                      kTileTokens);
      },
      [&](int64_t first, int warpgroup) {
        write_shifted_tiles<kTileTokens, kConsumers, 2>(tiles, from, factors, first);
        sync_threads<1, kConsumers>();
        unsigned char* const tile = tiles[0] + warpgroup * tile_bytes(kRows);
        const int64_t own = first + warpgroup * kRows;
        RowSums out = {};
        hold(out);
        mix_hidden(out, tile, arguments.chunks, ring, unit);
        RowSums gate = {};
        hold(gate);
        start_ring_product(gate, tiles[1] + warpgroup * tile_bytes(kRows), ring, unit);
        wait_products<0>();
        hold(gate);
        for (int slab = 0; slab < kTileSlabs; ++slab) ring.release(unit + slab);
        unit += kTileSlabs;
#pragma unroll
        for (int i = 0; i < RowSums::kCount; ++i) {
          out.values[i] *= sigmoid(gate.values[i]);
        }
        RowBatch batch;
        batch.load(residual, warp_row(own));
        sync_warpgroup();  // Its tile has been read.
        stage_rows(tile, out);
        finish_branch(tile, batch, residual, own);
        sync_threads<1, kConsumers>();  // All tiles and staged rows have been read.
      });
}

}  // namespace vrwkv::ops::cuda::hopper
