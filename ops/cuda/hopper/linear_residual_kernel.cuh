#pragma once

#include "ops/cuda/hopper/weight_ring.cuh"

namespace vrwkv::ops::cuda::hopper {

constexpr int kMatrixBytes = kTileSlabs * kWeightUnit;
constexpr int kLinearShared = kMatrixBytes + tile_bytes(kRows) + kSlabAlign;

/// Fetches a packed matrix; `barrier` says when it has come. For all threads of the block.
__device__ __forceinline__ void fetch_matrix(unsigned char* to, const unsigned char* from, Barrier& barrier) {
  if (threadIdx.x == 0) {
    barrier.init(1);
    publish_barriers();
  }
  __syncthreads();
  if (threadIdx.x != 0) return;
  barrier.expect(kMatrixBytes);
  for (int slab = 0; slab < kTileSlabs; ++slab) {
    copy_bulk(to + slab * kWeightUnit, from + slab * kWeightUnit, kWeightUnit, barrier);
  }
}

/// y = x + tokens W^T, and its feed. W stays in shared memory while a block takes one tile of 64 tokens after the
/// other.
__global__ void __launch_bounds__(kWarpgroup, 2)
    linear_residual_kernel(const __nv_bfloat16* tokens, const unsigned char* packed,
                           const __grid_constant__ Residual residual) {
  __shared__ Barrier barrier;
  unsigned char* const matrix = aligned_shared();
  unsigned char* const tile = matrix + kMatrixBytes;
  fetch_matrix(matrix, packed, barrier);
  bool fetched = false;
  const int64_t count = residual.count, step = static_cast<int64_t>(gridDim.x) * kRows;
  for (int64_t first = static_cast<int64_t>(blockIdx.x) * kRows; first < count; first += step) {
    if (threadIdx.x == 0) {
      prefetch_rows(residual.x, kChannels * 4, first + step, count, kRows);
      prefetch_rows(tokens, kChannels * 2, first + step, count, kRows);
    }
    write_tile<kRows, kWarpgroup>(tile, tokens, count, first);
    __syncthreads();
    if (!fetched) barrier.wait(0);
    fetched = true;
    RowBatch batch;
    batch.load(residual, warp_row(first));
    RowSums sums;
    begin_products();
    start_product<kSteps>(sums, tile, matrix);
    end_products();
    wait_products<0>();
    hold(sums);
    __syncthreads();  // The tile has been read.
    stage_rows(tile, sums);
    finish_branch(tile, batch, residual, first);
    __syncthreads();  // So have the staged rows.
  }
  if (!fetched) barrier.wait(0);  // A block may not end before its copies.
}

}  // namespace vrwkv::ops::cuda::hopper
