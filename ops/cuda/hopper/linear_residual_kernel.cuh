#pragma once

#include "ops/cuda/dependent_launch.cuh"
#include "ops/cuda/hopper/group_rows.cuh"
#include "ops/cuda/hopper/residual_rows.cuh"
#include "ops/cuda/hopper/weight_map.cuh"

namespace vrwkv::ops::cuda::hopper {

// The weight lies in shared memory, fetched once; every warpgroup takes 64 tokens after 64 through everything, on its
// own. All that passes through memory does so by copies, but for the feed.

constexpr int kSumGroups = 2;  ///< Warpgroups: there is room for the rows of so many.
constexpr int kSumWarps = kSumGroups * kWarpgroup / 32;
using SumRows = WarpRows<kWarpRows>;
constexpr int kValueRowsBytes = kRows * kRowBytes;
constexpr int kLinearResidualShared =
    kWeightBytes + kSumGroups * kValueRowsBytes + kSumWarps * SumRows::kBytes + kSlabAlign;

struct LinearResidual {
  CUtensorMap value;   ///< [count, C], in boxes of kRows rows and all columns.
  CUtensorMap weight;  ///< map_of_weight()
  const float* mask;   ///< A factor of the product for every `tokens` tokens; null: none.
  int tokens;
  Residual residual;
};

/// sums *= the factors of their tokens.
__device__ __forceinline__ void apply_mask(RowSums& sums, const LinearResidual& from, int64_t first) {
#pragma unroll
  for (int row = 0; row < 2; ++row) {
    const int64_t token = first + sums_row() + 8 * row;
    const unsigned image = static_cast<unsigned>(token) / static_cast<unsigned>(from.tokens);
    const float factor = token < from.residual.count ? from.mask[image] : 0.0F;
#pragma unroll
    for (int i = 0; i < RowSums::kCount; ++i) {
      if (i / 2 % 2 == row) sums.values[i] *= factor;
    }
  }
}

/// y = x + mask value weight^T, and its feed. `wanted`: y; else another kernel reads x and the values again.
template <bool wanted>
__global__ void __launch_bounds__(kSumGroups* kWarpgroup, 1)
    linear_residual_kernel(const __grid_constant__ LinearResidual arguments) {
  __shared__ Barrier weight_there, values_there[kSumGroups], x_there[kSumWarps];
  unsigned char* const weight = aligned_shared();
  const int warp = warp_in_block(), group = warp / (kWarpgroup / 32);
  unsigned char* const values = weight + kWeightBytes + group * kValueRowsBytes;
  const SumRows wide{weight + kWeightBytes + kSumGroups * kValueRowsBytes + warp * SumRows::kBytes, x_there[warp]};
  const Residual& residual = arguments.residual;
  // Tiles behind each other are those of different blocks: none has more than one more than another. The last tokens
  // come first, for the reason that residual_add_row.cuh gives.
  const int64_t tiles = (residual.count + kRows - 1) / kRows;
  const auto first_of = [&](int number) {
    const int64_t tile = tiles - 1 - static_cast<int64_t>(number * kSumGroups + group) * gridDim.x - blockIdx.x;
    return tile >= 0 ? tile * kRows : residual.count;
  };
  const int64_t of_warp = warp % (kWarpgroup / 32) * kWarpRows;
  const bool leads = threadIdx.x % kWarpgroup == 0;
  const auto fetch_values = [&](int64_t first) {
    values_there[group].expect(kValueRowsBytes);
    if constexpr (wanted) {
      copy_box_last(values, arguments.value, static_cast<int>(first), 0, values_there[group]);
    } else {
      copy_box(values, arguments.value, static_cast<int>(first), 0, values_there[group]);
    }
  };
  if (threadIdx.x == 0) {
    weight_there.init(1);
    for (Barrier& barrier : values_there) barrier.init(1);
    for (Barrier& barrier : x_there) barrier.init(1);
    publish_barriers();
  }
  __syncthreads();
  start_in_turn();
  if (threadIdx.x == 0) {
    weight_there.expect(kWeightBytes);
    for (int slab = 0; slab < kTileSlabs; ++slab) {
      copy_weight_slab(weight + slab * kWeightSlabBytes, arguments.weight, slab, 0, weight_there);
    }
  }
  if (first_of(0) < residual.count) {
    if (leads) fetch_values(first_of(0));
    wide.template fetch<wanted>(residual, first_of(0) + of_warp);
  }
  weight_there.wait(0);
  for (int number = 0; first_of(number) < residual.count; ++number) {
    const int64_t first = first_of(number), next = first_of(number + 1);
    values_there[group].wait(number % 2);
    RowSums sums;
    clear(sums);
    begin_products();
    start_product<kSteps>(sums, values, weight);
    end_products();
    wait_products<0>();
    hold(sums);
    sync_group(group);
    if (leads && next < residual.count) fetch_values(next);
    if (arguments.mask != nullptr) apply_mask(sums, arguments, first);
    wide.template finish<wanted>(sums, residual, first + of_warp, number % 2);
    if (next < residual.count) wide.template fetch<wanted>(residual, next + of_warp);
  }
  wait_stores_read();
}

}  // namespace vrwkv::ops::cuda::hopper
