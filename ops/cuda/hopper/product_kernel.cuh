#pragma once

#include "ops/cuda/dependent_launch.cuh"
#include "ops/cuda/hopper/cluster_ring.cuh"
#include "ops/cuda/hopper/rows.cuh"
#include "ops/cuda/hopper/tensor_map.cuh"

// Products of many rows and a weight: out = rows weight^T or, with the weight as it lies, out = rows weight, the
// gradient of the rows. Blocks stay and take tile after tile. Both factors pass through a ring, slab after slab of 64
// summed columns: one thread has them fetched, two warpgroups multiply 64 rows each with the same columns of the
// result. When a tile's sums are whole they are rounded into half as many registers, and the next tile's products
// start; beside them the results go out, 64 columns at a time. Tiles are of 256 columns, which cost least, and the last
// ones of 192, so that all blocks end together.

namespace vrwkv::ops::cuda::hopper {

struct ProductBlock {
  static constexpr int kGroups = 2, kStages = 4, kTileRows = kGroups * kRows, kThreads = (kGroups + 1) * kWarpgroup;
  static constexpr int kWideParts = 4, kNarrowParts = 3;  ///< Of kSlab columns each, of a tile.
  static constexpr int kLeftBytes = kTileRows * 128, kPartBytes = kSlab * 128;
  static constexpr int kStageBytes = kLeftBytes + kWideParts * kPartBytes;
  static constexpr int kStagedBytes = kRows * 128;  ///< A part of a warpgroup's results.
  static constexpr int kShared = kStages * kStageBytes + kGroups * kStagedBytes + kSlabAlign;
  /// Registers of a thread that multiplies and of one that does not, of 168 that each has at first.
  static constexpr int kManyRegisters = 232, kFewRegisters = 40;
};

struct ProductMaps {
  CUtensorMap rows;    ///< [count, C], in boxes of kTileRows rows and a slab.
  CUtensorMap weight;  ///< [D, C], or as it lies [C, D], in boxes of kSlab rows and a slab.
  CUtensorMap out;     ///< [count, D], in boxes of kRows rows and a slab.
};

constexpr int kMostProducts = 3;

/// Products of one size.
struct Products {
  ProductMaps maps[kMostProducts];
  int width;              ///< D
  int slabs;              ///< Of C.
  int bands;              ///< Of kTileRows rows of one product.
  int wide_bands;         ///< Of all products' bands, one product's behind the other's, those of wide tiles.
  int wide_tiles, tiles;  ///< Wide ones; all.
};

using ProductState = RingBarriers<ProductBlock::kStages>;
using ProductTurn = RingPlace<ProductBlock::kStages>;

/// Where a tile is.
struct ProductPlace {
  int product, row, part;  ///< The first row and part.

  __device__ __forceinline__ ProductPlace(const Products& products, int tile) {
    const bool wide = tile < products.wide_tiles;
    const int parts = wide ? ProductBlock::kWideParts : ProductBlock::kNarrowParts;
    const int beside = (products.width + parts * kSlab - 1) / (parts * kSlab);
    const int number = wide ? tile : tile - products.wide_tiles;
    const int band = number / beside + (wide ? 0 : products.wide_bands);
    product = band / products.bands;
    row = band % products.bands * ProductBlock::kTileRows;
    part = number % beside * parts;
  }
};

/// Has the factors of all of the block's tiles fetched. By one thread.
template <bool as_it_lies>
__device__ __forceinline__ void fetch_factors(const Products& products, unsigned char* ring, ProductState& state) {
  using Block = ProductBlock;
  ProductTurn turn;
  for (int tile = static_cast<int>(blockIdx.x); tile < products.tiles; tile += static_cast<int>(gridDim.x)) {
    const ProductPlace place(products, tile);
    const ProductMaps& maps = products.maps[place.product];
    const int parts = tile < products.wide_tiles ? Block::kWideParts : Block::kNarrowParts;
    for (int slab = 0; slab < products.slabs; ++slab, turn = turn.next()) {
      state.read[turn.stage].wait(turn.parity ^ 1);
      Barrier& full = state.full[turn.stage];
      unsigned char* const to = ring + turn.stage * Block::kStageBytes;
      full.expect(Block::kLeftBytes + parts * Block::kPartBytes);
      copy_box(to, maps.rows, place.row, slab, full);
      for (int i = 0; i < parts; ++i) {
        unsigned char* const part = to + Block::kLeftBytes + i * Block::kPartBytes;
        const int column = place.part + i;
        if (as_it_lies) {
          copy_box(part, maps.weight, slab * kSlab, column, full);
        } else {
          copy_box(part, maps.weight, column * kSlab, slab, full);
        }
      }
    }
  }
}

/// A warpgroup's way through the block's tiles.
template <bool as_it_lies>
struct ProductWalk {
  using Block = ProductBlock;

  const Products& products;
  unsigned char *ring, *staged;
  ProductState& state;
  int group;
  Sums<Block::kWideParts * kSlab> sums = {};
  uint32_t rounded[Block::kWideParts * kSlab / 4] = {};  ///< Sums of the tile before, in pairs.
  int parts_before = 0;                                  ///< Of that tile.
  int product_before = 0, row_before = 0, part_before = 0;
  ProductTurn turn;

  __device__ __forceinline__ void release(int stage) const {
    if (threadIdx.x % 32 == 0) state.read[stage].arrive();
  }

  /// Writes a part of the results before.
  __device__ __forceinline__ void write(int part) const {
    if (part >= parts_before) return;
    const bool leads = threadIdx.x % kWarpgroup == 0;
    if (leads) wait_stores_read();
    sync_warpgroup();
    const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) % kWarpgroup / 32;
#pragma unroll
    for (int piece = 0; piece < 8; piece += 2) {
      store_matrices(staged + slab_offset(16 * warp + lane % 16, (piece + lane / 16) * kVector),
                     rounded + 2 * (8 * part + piece));
    }
    publish_writes();
    sync_warpgroup();
    if (leads) {
      store_box(products.maps[product_before].out, row_before, part_before + part, staged);
      end_stores();
    }
  }

  /// The products of a tile of so many parts, and beside them the results of the one before.
  template <int parts>
  __device__ __forceinline__ void take(int tile) {
    int running = -1;  // The stage whose products run.
#pragma unroll
    for (int part = 0; part < parts; ++part) {
      const int stop = products.slabs * (part + 1) / parts;
#pragma unroll 1
      for (int slab = products.slabs * part / parts; slab < stop; ++slab, turn = turn.next()) {
        state.full[turn.stage].wait(turn.parity);
        const unsigned char* const left = ring + turn.stage * Block::kStageBytes;
        const unsigned char* const right = left + Block::kLeftBytes;
        begin_products();
#pragma unroll
        for (int step = 0; step < kSlab / kStep; ++step) {
          multiply_columns<parts * kSlab, as_it_lies>(sums, factor(left + group * kRows * 128, step),
                                                      as_it_lies ? transposed_factor(right, step) : factor(right, step),
                                                      slab > 0 || step > 0);
        }
        end_products();
        wait_products<1>();
        if (running >= 0) release(running);
        running = turn.stage;
      }
      write(part);
    }
    if (parts < Block::kWideParts) write(Block::kWideParts - 1);  // If the tile before was a wide one.
    wait_products<0>();
    hold(sums);
    release(running);
#pragma unroll
    for (int i = 0; i < parts * kSlab / 4; ++i) {
      rounded[i] = rounded_pair(sums.values[2 * i], sums.values[2 * i + 1]);
    }
    const ProductPlace place(products, tile);
    parts_before = parts;
    product_before = place.product;
    row_before = place.row + group * kRows;
    part_before = place.part;
  }

  __device__ __forceinline__ void finish() const {
#pragma unroll
    for (int part = 0; part < Block::kWideParts; ++part) write(part);
    if (threadIdx.x % kWarpgroup == 0) wait_stores_read();
  }
};

/// Launched with at most as many blocks as there are tiles.
template <bool as_it_lies>
__global__ void __launch_bounds__(ProductBlock::kThreads, 1) product_kernel(const __grid_constant__ Products products) {
  using Block = ProductBlock;
  __shared__ ProductState state;
  unsigned char* const ring = aligned_shared();
  if (threadIdx.x == 0) {
    state.init(Block::kGroups * kWarpgroup / 32);
    publish_barriers();
  }
  start_in_turn();
  __syncthreads();
  const int group = warpgroup();
  if (group == Block::kGroups) {
    give_registers<Block::kFewRegisters>();
    if (threadIdx.x % kWarpgroup == 0) fetch_factors<as_it_lies>(products, ring, state);
    return;
  }
  take_registers<Block::kManyRegisters>();
  unsigned char* const staged = ring + Block::kStages * Block::kStageBytes + group * Block::kStagedBytes;
  ProductWalk<as_it_lies> walk{products, ring, staged, state, group};
  int tile = static_cast<int>(blockIdx.x);
  const int step = static_cast<int>(gridDim.x);
  for (; tile < products.wide_tiles; tile += step) walk.template take<Block::kWideParts>(tile);
  for (; tile < products.tiles; tile += step) walk.template take<Block::kNarrowParts>(tile);
  walk.finish();
}

}  // namespace vrwkv::ops::cuda::hopper
