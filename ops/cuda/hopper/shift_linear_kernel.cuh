#pragma once

#include "ops/cuda/hopper/cluster_ring.cuh"

namespace vrwkv::ops::cuda::hopper {

// All weights lie in shared memory, fetched once; every warpgroup takes 64 tokens after 64 through everything, on its
// own.

constexpr int kShiftLinears = 3;
constexpr int kLinearGroups = 2;  ///< Warpgroups: a left factor, sums and the tokens read ahead want many registers.
constexpr int kLinearParts = 2;   ///< Of a product's columns, one after the other.
constexpr int kShiftLinearShared = kShiftLinears * kUnits * kWeightUnit + kSlabAlign;

struct ShiftLinear {
  ShiftedTokens from;
  const float* mixes[kShiftLinears];
  const unsigned char* packed;  ///< kShiftLinears matrices of kUnits units.
  __nv_bfloat16* out[kShiftLinears];
};

/// All of a thread's tokens, which are mixed three times.
struct ShiftedRows {
  ShiftedPlaces places;
  Bits own[kSpans][2], other[kSpans][2];

  /// The loads are under way when this returns.
  __device__ __forceinline__ ShiftedRows(const ShiftedTokens& from, int64_t first) : places(from, first) {
#pragma unroll
    for (int i = 0; i < kSpans * 2; ++i) {
      own[i / 2][i % 2] = places.own(from, i / 2, i % 2);
      other[i / 2][i % 2] = places.other(from, i / 2, i % 2);
    }
  }

  /// Mix number `number`. The tokens are converted anew for each: there are no registers for what mixes share.
  __device__ __forceinline__ void mix(LeftFactor& to, const MixFactors<kShiftLinears>& factors, int number) {
#pragma unroll
    for (int i = 0; i < kSpans * 2 * kVector / 2; ++i) {
      asm volatile("" : "+r"(own[i / 8][i / 4 % 2].values[i % 4]), "+r"(other[i / 8][i / 4 % 2].values[i % 4]));
    }
#pragma unroll
    for (int span = 0; span < kSpans; ++span) {
      const ShiftedSpan rows{{own[span][0], own[span][1]},
                             {other[span][0], other[span][1]},
                             {places.shifts(span, 0), places.shifts(span, 1)},
                             places.channel(span)};
      uint32_t steps[1][2][4];
      rows.mix(steps, factors, number);
      to.set(span, steps[0]);
    }
    hold(to.values);
  }
};

/// out_j = (n m_j + shift(n) (1 - m_j)) W_j^T
__global__ void __cluster_dims__(kClusterBlocks) __launch_bounds__(kLinearGroups* kWarpgroup, 1)
    shift_linear_kernel(const __grid_constant__ ShiftLinear arguments) {
  constexpr int kMatrixBytes = kUnits * kWeightUnit, kPartSpans = kSpans / kLinearParts;
  __shared__ Barrier there[kShiftLinears];
  __shared__ alignas(16) MixFactors<kShiftLinears> factors;
  unsigned char* const weights = aligned_shared();
  const ShiftedTokens& from = arguments.from;
  const ClusterWalk<kLinearGroups> walk(from.count);
  const int group = warpgroup();
  start_in_turn();
  if (threadIdx.x % kWarpgroup == 0) prefetch_rows(from.tokens, kRowBytes, walk.first(0, group), from.count);
  const float* const mixes[kShiftLinears]{arguments.mixes[0], arguments.mixes[1], arguments.mixes[2]};
  const auto column = MixFactors<kShiftLinears>::load(from, mixes);
  ShiftedRows rows(from, walk.first(0, group));
  if (threadIdx.x == 0) {
    for (Barrier& barrier : there) barrier.init(1);
    publish_barriers();
  }
  factors.store(column);
  sync_cluster();
  const auto fetch = [&](int j) {
    there[j].expect(kMatrixBytes);
    for (int unit = j * kUnits; unit < (j + 1) * kUnits; ++unit) {
      fetch_share(weights + unit * kWeightUnit, arguments.packed + unit * kWeightUnit, there[j]);
    }
  };
  if (threadIdx.x == 0) fetch(0);
  for (int number = 0; number < walk.tiles; ++number) {
    const int64_t first = walk.first(number, group);
#pragma unroll 1
    for (int j = 0; j < kShiftLinears; ++j) {
      LeftFactor left;
      rows.mix(left, factors, j);
      // The tokens were waited for first.
      if (number == 0 && j + 1 < kShiftLinears && threadIdx.x == 0) fetch(j + 1);
      if (j + 1 == kShiftLinears && number + 1 < walk.tiles) {
        rows = ShiftedRows(from, walk.first(number + 1, group));
      }
      there[j].wait(0);
#pragma unroll
      for (int part = 0; part < kLinearParts; ++part) {
        Sums<kPartSpans * kSpan> sums;
        clear(sums);
        begin_products();
#pragma unroll
        for (int k = 0; k < kSteps; ++k) {
          const unsigned char* const unit = weights + j * kMatrixBytes + k / 2 * kWeightUnit;
          multiply(sums, left.values[k], narrow_factor(unit + part * kPartSpans * kSpan * kNarrowRow, k % 2), k > 0);
        }
        end_products();
        wait_products<0>();
        hold(sums);
        const int64_t token = first + sums_row();
        __nv_bfloat16* const to = arguments.out[j] + token * kChannels + part * kPartSpans * kSpan;
#pragma unroll
        for (int row = 0; row < 2; ++row) {
          if (token + 8 * row < from.count) store_row<kPartSpans>(to + 8 * row * kChannels, sums, row);
        }
      }
    }
  }
  sync_cluster();  // Neither block ends before copies to it have come.
}

}  // namespace vrwkv::ops::cuda::hopper
