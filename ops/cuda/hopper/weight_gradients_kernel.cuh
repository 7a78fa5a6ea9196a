#pragma once

#include <cooperative_groups.h>

#include "ops/cuda/hopper/block.cuh"
#include "ops/cuda/hopper/tensor_map.cuh"

// Gradients of weights: products L^T R of L [M, rows] and R [M, columns], sums over M tokens. Tiles of all of them
// share one launch, and the tokens of a tile are divided among as many blocks as there is room for. All tiles pass over
// the same tokens at the same time, so that the second cache has what several of them read. The blocks of a tile leave
// their sums in memory, meet, and each adds up its share of the tile; a block that has all tokens writes its sums right
// away.

namespace vrwkv::ops::cuda::hopper {

/// `groups` warpgroups multiply kRows rows each; one thread of another one has slabs of tokens fetched into a ring.
template <int groups>
struct GradientTile {
  static constexpr int kGroups = groups, kRowsOfTile = groups * kRows;
  static constexpr int kColumnSlabs = 3, kColumnsOfTile = kColumnSlabs * kSlab;
  static constexpr int kSlabBytes = kSlab * 128;  ///< kSlab tokens of 64 channels.
  static constexpr int kLeftBytes = groups * kSlabBytes, kStageBytes = kLeftBytes + kColumnSlabs * kSlabBytes;
  static constexpr int kStages = 230400 / kStageBytes;  ///< That shared memory has room for.
  static constexpr int kShared = kStages * kStageBytes + kSlabAlign;
  static constexpr int kMultiplying = groups * kWarpgroup, kThreads = kMultiplying + kWarpgroup;
  static constexpr int kVectorsOfThread = kColumnsOfTile / 8;  ///< Four sums each.
  static constexpr int kVectors = kVectorsOfThread * kMultiplying;
};

/// A product, or the transpose of one.
struct GradientMatrix {
  CUtensorMap left, right;        ///< Boxes of kSlab tokens and a tile's slabs.
  float* out;                     ///< Element (row, column) at row * row_stride + column * column_stride.
  int row_stride, column_stride;  ///< One of them is 1.
};

struct WeightGradients {
  GradientMatrix matrices[2];  ///< All of one size.
  float* parts;                ///< [matrices, tiles, splits, kVectors, 4]; not used where splits is 1.
  int columns, tiles;          ///< Of a matrix: tiles beside each other, and all.
  int splits, slabs;           ///< Blocks of a tile; slabs of tokens.
};

/// Where in a matrix a tile starts.
struct TilePlace {
  int row, column;
};

/// Where share `share` of `count` items starts, of `shares` equal ones.
__device__ __forceinline__ int share_start(int count, int share, int shares) {
  return static_cast<int>(static_cast<int64_t>(count) * share / shares);
}

/// Writes vector `at` of a tile of a matrix: two columns of a row, and those of the row 8 below.
template <typename Tile>
__device__ __forceinline__ void write_sums(const GradientMatrix& matrix, const TilePlace& tile, int at,
                                           const Vector<float, 4>& sums) {
  const int thread = at % Tile::kMultiplying, vector = at / Tile::kMultiplying;
  const int row = tile.row + thread / 32 * 16 + thread % 32 / 4, column = tile.column + 8 * vector + thread % 4 * 2;
  float* const to =
      matrix.out + static_cast<int64_t>(row) * matrix.row_stride + static_cast<int64_t>(column) * matrix.column_stride;
  if (matrix.column_stride == 1) {
    store_vector(to, Vector<float, 2>{sums.values[0], sums.values[1]});
    store_vector(to + 8 * static_cast<int64_t>(matrix.row_stride), Vector<float, 2>{sums.values[2], sums.values[3]});
  } else {
    to[0] = sums.values[0];
    to[matrix.column_stride] = sums.values[1];
    to[8] = sums.values[2];
    to[matrix.column_stride + 8] = sums.values[3];
  }
}

/// Stores a vector at once: the compiler splits an assignment where there is a condition into four.
__device__ __forceinline__ void store_part(float* to, const Vector<float, 4>& sums) {
  asm volatile("st.global.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(to), "f"(sums.values[0]), "f"(sums.values[1]),
               "f"(sums.values[2]), "f"(sums.values[3])
               : "memory");
}

/// Adds up a block's share of its tile's parts, `parts` [splits, kVectors, 4], in their order.
template <typename Tile>
__device__ __forceinline__ void add_parts(const GradientMatrix& matrix, const TilePlace& tile, const float* parts,
                                          int split, int splits) {
  constexpr int kAhead = 12;  // Parts whose loads are under way together.
  const int end = share_start(Tile::kVectors, split + 1, splits);
#pragma unroll 1
  for (int at = share_start(Tile::kVectors, split, splits) + static_cast<int>(threadIdx.x); at < end;
       at += Tile::kThreads) {
    Vector<float, 4> sum{};
#pragma unroll 1
    for (int part = 0; part < splits; part += kAhead) {
      float4 ahead[kAhead];
#pragma unroll
      for (int k = 0; k < kAhead; ++k) {
        const int64_t from = static_cast<int64_t>(part + k) * Tile::kVectors + at;
        // Not from the first cache, which does not see what other blocks write.
        ahead[k] = part + k < splits ? __ldcg(reinterpret_cast<const float4*>(parts) + from) : float4{};
      }
#pragma unroll
      for (int k = 0; k < kAhead; ++k) {
        sum.values[0] += ahead[k].x;
        sum.values[1] += ahead[k].y;
        sum.values[2] += ahead[k].z;
        sum.values[3] += ahead[k].w;
      }
    }
    write_sums<Tile>(matrix, tile, at, sum);
  }
}

/// Block splits (tiles matrix + tile) + split. Where splits is more than 1, all blocks must run at the same time.
template <typename Tile>
__global__ void __launch_bounds__(Tile::kThreads, 1)
    weight_gradients_kernel(const __grid_constant__ WeightGradients product) {
  __shared__ RingBarriers<Tile::kStages> state;
  unsigned char* const ring = aligned_shared();
  const int splits = product.splits, split = static_cast<int>(blockIdx.x) % splits;
  const int of_all = static_cast<int>(blockIdx.x) / splits, of_matrix = of_all % product.tiles;
  const GradientMatrix& matrix = product.matrices[of_all / product.tiles];
  const TilePlace tile{of_matrix / product.columns * Tile::kRowsOfTile,
                       of_matrix % product.columns * Tile::kColumnsOfTile};
  const int first = share_start(product.slabs, split, splits), end = share_start(product.slabs, split + 1, splits);
  const int thread = static_cast<int>(threadIdx.x), group = warpgroup();
  if (thread == 0) {
    state.init(Tile::kMultiplying / 32);
    publish_barriers();
  }
  __syncthreads();
  int stage = 0, parity = 0;
  const auto advance = [&] {
    if (++stage < Tile::kStages) return;
    stage = 0;
    parity ^= 1;
  };
  if (group == Tile::kGroups) {
    if (thread % kWarpgroup == 0) {
      for (int slab = first; slab < end; ++slab) {
        unsigned char* const to = ring + stage * Tile::kStageBytes;
        Barrier& full = state.full[stage];
        state.read[stage].wait(parity ^ 1);
        full.expect(Tile::kStageBytes);
        copy_box(to, matrix.left, slab * kSlab, tile.row / kSlab, full);
        copy_box(to + Tile::kLeftBytes, matrix.right, slab * kSlab, tile.column / kSlab, full);
        advance();
      }
    }
  } else {
    Sums<Tile::kColumnsOfTile> sums;
    clear(sums);
    int last = -1;  // Stage whose products run.
#pragma unroll 1
    for (int slab = first; slab < end; ++slab) {
      const unsigned char* const factors = ring + stage * Tile::kStageBytes;
      state.full[stage].wait(parity);
      begin_products();
#pragma unroll
      for (int step = 0; step < kSlab / kStep; ++step) {
        multiply_transposed(sums, transposed_factor(factors + group * Tile::kSlabBytes, step),
                            transposed_factor(factors + Tile::kLeftBytes, step));
      }
      end_products();
      wait_products<1>();
      if (last >= 0 && thread % 32 == 0) state.read[last].arrive();
      last = stage;
      advance();
    }
    wait_products<0>();
    hold(sums);
    float* const part = product.parts + (static_cast<int64_t>(blockIdx.x) * Tile::kVectors + thread) * 4;
#pragma unroll
    for (int j = 0; j < Tile::kVectorsOfThread; ++j) {
      const float* const values = sums.values + 4 * j;
      const Vector<float, 4> vector{values[0], values[1], values[2], values[3]};
      if (splits == 1) {
        write_sums<Tile>(matrix, tile, j * Tile::kMultiplying + thread, vector);
      } else {
        store_part(part + static_cast<int64_t>(j) * Tile::kMultiplying * 4, vector);
      }
    }
  }
  if (splits == 1) return;
  cooperative_groups::this_grid().sync();
  add_parts<Tile>(matrix, tile, product.parts + static_cast<int64_t>(of_all) * splits * Tile::kVectors * 4, split,
                  splits);
}

}  // namespace vrwkv::ops::cuda::hopper
