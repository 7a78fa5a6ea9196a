#pragma once

#include "ops/cuda/hopper/cluster_ring.cuh"
#include "ops/cuda/hopper/group_rows.cuh"
#include "ops/cuda/hopper/residual_rows.cuh"
#include "ops/cuda/sigmoid.cuh"

namespace vrwkv::ops::cuda::hopper {

constexpr int kHiddenChunk = kSlab;  ///< Hidden channels computed at once.

constexpr int kMixGroups = 2;  ///< Warpgroups of a block that multiply; one more fetches weights.
constexpr int kMixWarps = kMixGroups * kWarpgroup / 32;
constexpr int kMixThreads = (kMixGroups + 1) * kWarpgroup;
constexpr int kMixStages = 10;
using WideRows = WarpRows<kWarpRows / 2>;  ///< The rest of the memory is for weights.
constexpr int kMixShared =
    kMixStages * kWeightUnit + kMixWarps * WideRows::kBytes + kMixGroups * kGroupRowsBytes + kSlabAlign;
using MixRing = ClusterRing<kMixStages, kMixWarps>;
using MixReader = RingReader<kMixStages, kMixWarps>;

struct ChannelMix {
  ShiftedTokens from;
  const float *mix_k, *mix_r;
  /// For each chunk of hidden channels two units of the key and two of the value; then the receptance's, by rows; then
  /// the linear layer's, where there is one.
  const unsigned char* packed;
  int chunks;
  const __nv_bfloat16* values;  ///< [count, C], what the linear layer reads.
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
    }
  }
  hold(keys);
}

/// sums = left weights^T with kSlab rows of weights, the next two units, each a group of products. Starts them only.
__device__ __forceinline__ void start_rows(Sums<kSlab>& sums, const LeftFactor& left, MixReader& weights) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const unsigned char* const unit = weights.take();
    begin_products();
#pragma unroll
    for (int k = 0; k < kUnitSteps; ++k) {
      multiply(sums, left.values[half * kUnitSteps + k], narrow_factor(unit + k / 2 * kSlab * kNarrowRow, k % 2),
               half > 0 || k > 0);
    }
    end_products();
  }
}

/// out = relu(hidden)^2 value^T for a chunk of hidden channels whose products run, added where `add`. Starts it only,
/// two groups with a unit each.
__device__ __forceinline__ void start_values(RowSums& out, Sums<kSlab>& hidden, MixReader& weights, bool add) {
  weights.give<1>();
  weights.give<0>();
  hold(hidden);
  uint32_t keys[4][4];
  square(keys, hidden);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const unsigned char* const unit = weights.take();
    begin_products();
#pragma unroll
    for (int k = 0; k < 2; ++k) multiply(out, keys[2 * half + k], narrow_factor(unit, k), add || half > 0 || k > 0);
    end_products();
  }
}

/// out = relu(mixed key^T)^2 value^T of one warpgroup's 64 tokens, chunk by chunk of the hidden channels. The last two
/// groups of products still run when this returns.
__device__ __forceinline__ void mix_hidden(RowSums& out, const LeftFactor& mixed, int chunks, MixReader& weights) {
  Sums<kSlab> hidden;
  clear(hidden);
  start_rows(hidden, mixed, weights);
#pragma unroll 1
  for (int chunk = 1; chunk < chunks; ++chunk) {
    start_values(out, hidden, weights, chunk > 1);
    start_rows(hidden, mixed, weights);
    weights.give<3>();
    weights.give<2>();
  }
  start_values(out, hidden, weights, chunks > 1);
}

/// out *= sigmoid(mixed receptance^T), slab by slab of the channels, when the products of `out` have ended.
__device__ __forceinline__ void gate_rows(RowSums& out, const LeftFactor& mixed, MixReader& weights) {
  Sums<kSlab> gates[2];
  clear(gates[0]);
  start_rows(gates[0], mixed, weights);
  weights.give<3>();
  weights.give<2>();
  hold(out);
  clear(gates[1]);
#pragma unroll
  for (int slab = 0; slab < kTileSlabs; ++slab) {
    Sums<kSlab>& gate = gates[slab % 2];
    if (slab + 1 < kTileSlabs) {
      start_rows(gates[(slab + 1) % 2], mixed, weights);
      weights.give<3>();
      weights.give<2>();
    } else {
      weights.give<1>();
      weights.give<0>();
    }
    hold(gate);
#pragma unroll
    for (int i = 0; i < Sums<kSlab>::kCount; ++i) out.values[slab * Sums<kSlab>::kCount + i] *= sigmoid(gate.values[i]);
  }
}

/// Starts out += values weight^T, whose last unit runs on.
__device__ __forceinline__ void start_linear(RowSums& out, const LeftFactor& values, MixReader& weights) {
#pragma unroll
  for (int unit = 0; unit < kUnits; ++unit) {
    const unsigned char* const weight = weights.take();
    begin_products();
#pragma unroll
    for (int k = 0; k < 2; ++k) multiply(out, values.values[2 * unit + k], narrow_factor(weight, k), true);
    end_products();
    if (unit > 0) weights.give<1>();
  }
}

/// The warpgroups that multiply meet. They know each other by sync_group(), too.
__device__ __forceinline__ void sync_mix_groups() {
  asm volatile("bar.sync %0, %1;" ::"n"(1 + kMixGroups), "n"(kMixGroups * kWarpgroup) : "memory");
}

/// A whole channel mix: neither the hidden channels nor the mixes leave the multiprocessor. The tokens are asked for
/// before the ring is filled, since they are needed first. `linear`: the residual sum gets a linear layer, too.
template <bool linear>
__global__ void __cluster_dims__(kClusterBlocks) __launch_bounds__(kMixThreads, 1)
    channel_mix_kernel(const __grid_constant__ ChannelMix arguments) {
  __shared__ RingBarriers<kMixStages> state;
  __shared__ Barrier wide_there[kMixWarps], rows_there[kMixGroups];
  __shared__ alignas(16) MixFactors factors;
  unsigned char* const shared = aligned_shared();
  unsigned char* const wide_rows = shared + kMixStages * kWeightUnit;
  const ShiftedTokens& from = arguments.from;
  const ClusterWalk<kMixGroups> walk(from.count);
  const MixRing ring{shared, state};
  const int warp = warp_in_block(), group = warp / (kWarpgroup / 32);
  const auto rows_of = [&](int of) {
    return GroupRows{wide_rows + kMixWarps * WideRows::kBytes + of * kGroupRowsBytes, rows_there[of]};
  };
  const bool fetches = threadIdx.x == kMixWarps * 32;
  const int units = 4 * arguments.chunks + (linear ? 2 : 1) * kUnits;
  if (fetches) {
    prefetch_share(arguments.packed, units);
    ring.start();
    for (Barrier& barrier : wide_there) barrier.init(1);
    for (Barrier& barrier : rows_there) barrier.init(1);
    publish_barriers();
  }
  start_in_turn();
  if (fetches) {
    for (int of = 0; of < kMixGroups; ++of) rows_of(of).fetch(from, walk.first(0, of));
  }
  const float* const mixes[2]{arguments.mix_k, arguments.mix_r};
  const auto column = MixFactors::load(from, mixes);
  VerticalNeighbours vertical;
  if (group < kMixGroups) vertical.load({from, walk.first(0, group)}, from);
  meet_cluster();
  if (group == kMixGroups) {
    give_registers<24>();
    if (fetches) ring.fetch(arguments.packed, units, walk.tiles);
  } else {
    take_registers<240>();
    factors.store(column);
    sync_mix_groups();
    const Residual& residual = arguments.residual;
    const GroupRows rows = rows_of(group);
    const bool leads = threadIdx.x % kWarpgroup == 0;
    const WideRows wide{wide_rows + warp * WideRows::kBytes, wide_there[warp]};
    const int warp_of_group = warp % (kWarpgroup / 32);
    MixReader weights{ring, {}, {}};
    for (int number = 0; number < walk.tiles; ++number) {
      const int64_t first = walk.first(number, group), next = walk.first(number + 1, group);
      const int64_t first_of_warp = first + warp_of_group * kWarpRows;
      if (leads) prefetch_rows(residual.x, kWideRowBytes, first, from.count);
      const ShiftedPlaces places(from, first);
      LeftFactor mixed;
      rows.there.wait(linear ? 0 : number % 2);
      rows.mix(mixed, places, vertical, factors, group);
      RowSums out;
      clear(out);
      mix_hidden(out, mixed, arguments.chunks, weights);
      wide.fetch(residual, first_of_warp);
      rows.kept(mixed, {from, first});
      publish_writes();  // Those before the copy.
      sync_group(group);
      if constexpr (linear) {
        if (leads) rows.fetch_rows(arguments.values, first, from.count);
      } else {
        if (leads && number + 1 < walk.tiles) rows.fetch(from, next);
      }
      gate_rows(out, mixed, weights);
      if constexpr (linear) {
        rows.there.wait(1);
        rows.fetched(mixed, {from, first});
        sync_group(group);
        if (leads && number + 1 < walk.tiles) rows.fetch(from, next);
        hold(out);
        start_linear(out, mixed, weights);
        weights.give<0>();
        hold(out);
      }
      const WideRows::Second second(residual, first_of_warp);
      vertical.load({from, next}, from);
      wide.finish(out, second, residual, first_of_warp, number % 2);
    }
    wait_stores_read();
  }
  __syncwarp();
  sync_cluster();
}

}  // namespace vrwkv::ops::cuda::hopper
