#pragma once

#include "ops/cuda/dependent_launch.cuh"
#include "ops/cuda/hopper/hidden_kernel.cuh"
#include "ops/cuda/hopper/tensor_map.cuh"

// hidden_kernel for more channels than leave room for a tile of tokens in shared memory: both factors, weights in
// bfloat16 as they lie, pass through a ring, slab after slab of 64 channels. Two warpgroups multiply 64 tokens each
// with the same 256 hidden channels; one thread of a third one has everything fetched. When a tile's sums are whole
// they are rounded into half as many registers, and the next tile's products start; beside them what is done with the
// results goes on, a quarter of the tile's hidden channels at a time.

namespace vrwkv::ops::cuda::hopper {

struct WideBlock {
  static constexpr int kGroups = 2, kStages = 4, kQuarters = 4;
  static constexpr int kTokens = kGroups * kRows, kHidden = kQuarters * kSlab;  ///< Of a tile.
  static constexpr int kThreads = (kGroups + 1) * kWarpgroup;
  static constexpr int kLeftBytes = kTokens * 128, kUnitBytes = kHidden * 128, kStageBytes = kLeftBytes + kUnitBytes;
  static constexpr int kStagedBytes = kRows * 128;  ///< A quarter of a warpgroup's results; it has two in turn.
  static constexpr int kShared = kStages * kStageBytes + 2 * kGroups * kStagedBytes + kSlabAlign;
  /// Registers of a thread that multiplies and of one that does not, of 168 that each has at first.
  static constexpr int kManyRegisters = 232, kFewRegisters = 40;
};

struct WideProduct {
  CUtensorMap tokens;  ///< [count, C], in boxes of WideBlock::kTokens rows.
  CUtensorMap
      weight;  ///< [H, C] in boxes of kHidden rows, or in the backward pass [C, H], of kSlab rows and kQuarters.
  const __nv_bfloat16* hidden;  ///< [count, H], what the gradient is of; null in the forward pass.
  __nv_bfloat16* out;           ///< [count, H]
  int64_t count;
  int slabs, width;  ///< Of C; H.
  int columns;       ///< Tiles beside each other, for all of H.
  int64_t tiles;
};

using WideState = RingBarriers<WideBlock::kStages>;

/// The stage of a ring that comes next, and the parity of its phase.
struct WideTurn {
  int stage = 0, parity = 0;
  __device__ __forceinline__ void next() {
    if (++stage < WideBlock::kStages) return;
    stage = 0;
    parity ^= 1;
  }
};

/// Has the factors of all of the block's tiles fetched. By one thread.
template <bool backward>
__device__ __forceinline__ void fetch_factors(const WideProduct& product, unsigned char* ring, WideState& state) {
  using Block = WideBlock;
  WideTurn turn;
  bool used = false;  // Whether the stages have been.
  for (int64_t tile = blockIdx.x; tile < product.tiles; tile += gridDim.x) {
    const int row = static_cast<int>(tile / product.columns) * Block::kTokens;
    const int column = static_cast<int>(tile % product.columns);
    for (int slab = 0; slab < product.slabs; ++slab) {
      if (used) state.read[turn.stage].wait(turn.parity ^ 1);
      Barrier& full = state.full[turn.stage];
      unsigned char* const to = ring + turn.stage * Block::kStageBytes;
      full.expect(Block::kStageBytes);
      copy_box(to, product.tokens, row, slab, full);
      if (backward) {
        copy_box(to + Block::kLeftBytes, product.weight, slab * kSlab, column * Block::kQuarters, full);
      } else {
        copy_box(to + Block::kLeftBytes, product.weight, column * Block::kHidden, slab, full);
      }
      turn.next();
      used |= turn.stage == 0;
    }
  }
}

/// A warpgroup's way through the block's tiles.
template <bool backward>
struct WideWalk {
  using Block = WideBlock;
  using Pieces = RowPieces<kSlab>;

  const WideProduct& product;
  unsigned char *ring, *staged;
  WideState& state;
  int group;
  Sums<Block::kHidden> sums = {};
  uint32_t rounded[Block::kHidden / 4] = {};  ///< Sums of the tile before, in pairs.
  HiddenPlace before;                         ///< Where that tile's results belong.
  int columns_before = 0;                     ///< Those from its first one on that exist.
  WideTurn turn;

  __device__ __forceinline__ void release(int stage) const {
    if (threadIdx.x % 32 == 0) state.read[stage].arrive();
  }

  __device__ __forceinline__ bool exists(int quarter, int i) const {
    return Pieces::rows_to(i) < before.rows && quarter * kSlab < columns_before;
  }
  /// Elements from the start of a tensor [count, H] to piece i of a quarter of the tile before.
  __device__ __forceinline__ int64_t offset(int quarter, int i) const {
    return before.offset + static_cast<int64_t>(Pieces::rows_to(i)) * product.width + quarter * kSlab;
  }

  __device__ __forceinline__ void read_hidden(int quarter, Bits (&hidden)[Pieces::kCount]) const {
#pragma unroll
    for (int i = 0; i < Pieces::kCount; ++i) {
      if (!exists(quarter, i)) continue;
      hidden[i] = load_vector<kVector / 2>(reinterpret_cast<const uint32_t*>(product.hidden + offset(quarter, i)));
    }
  }

  /// Writes a quarter of the results before.
  __device__ __forceinline__ void write(int quarter, const Bits (&hidden)[Pieces::kCount]) const {
    const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) % kWarpgroup / 32;
    unsigned char* const rows = staged + quarter % 2 * Block::kStagedBytes;
#pragma unroll
    for (int piece = 0; piece < 8; ++piece) {
      unsigned char* const to = rows + staged_offset<kSlab>(16 * warp + lane / 4, 0, piece) + lane % 4 * 4;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        *reinterpret_cast<uint32_t*>(to + half * 8 * 128) = rounded[2 * (8 * quarter + piece) + half];
      }
    }
    sync_warpgroup();  // Also: all have read what was staged before this one's other half.
#pragma unroll
    for (int i = 0; i < Pieces::kCount; ++i) {
      const Bits product_sums = Pieces::staged(rows, i);
      const Bits results = backward ? squared_relu_gradient(product_sums, hidden[i]) : squared_relu(product_sums);
      if (exists(quarter, i)) store_piece(product.out + offset(quarter, i), results);
    }
  }

  /// The products of a tile, and beside them the results of the one before.
  __device__ __forceinline__ void take(int64_t tile) {
    int last = -1;  // Stage whose products run.
#pragma unroll
    for (int quarter = 0; quarter < Block::kQuarters; ++quarter) {
      Bits hidden[Pieces::kCount] = {};
      if (backward) read_hidden(quarter, hidden);
      const int end = product.slabs * (quarter + 1) / Block::kQuarters;
#pragma unroll 1
      for (int slab = product.slabs * quarter / Block::kQuarters; slab < end; ++slab) {
        state.full[turn.stage].wait(turn.parity);
        const unsigned char* const factors = ring + turn.stage * Block::kStageBytes;
        begin_products();
#pragma unroll
        for (int step = 0; step < kSlab / kStep; ++step) {
          multiply_columns<Block::kHidden, backward>(sums, factor(factors + group * kRows * 128, step),
                                                     backward ? transposed_factor(factors + Block::kLeftBytes, step)
                                                              : factor(factors + Block::kLeftBytes, step),
                                                     slab > 0 || step > 0);
        }
        end_products();
        wait_products<1>();
        if (last >= 0) release(last);
        last = turn.stage;
        turn.next();
      }
      write(quarter, hidden);
    }
    wait_products<0>();
    hold(sums);
    release(last);
#pragma unroll
    for (int i = 0; i < Block::kHidden / 4; ++i) rounded[i] = rounded_pair(sums.values[2 * i], sums.values[2 * i + 1]);
    const int64_t row = tile / product.columns * Block::kTokens + group * kRows + Pieces::first_row();
    const int column = static_cast<int>(tile % product.columns) * Block::kHidden;
    const int64_t left = product.count - row;
    before.offset = row * product.width + column + Pieces::first_piece() * kVector;
    before.rows = static_cast<int>(left < 0 ? 0 : left < kRows ? left : kRows);
    columns_before = product.width - column;
  }

  __device__ __forceinline__ void finish() const {
#pragma unroll
    for (int quarter = 0; quarter < Block::kQuarters; ++quarter) {
      Bits hidden[Pieces::kCount] = {};
      if (backward) read_hidden(quarter, hidden);
      write(quarter, hidden);
    }
  }
};

/// As hidden_kernel, for any number of slabs of channels, and of hidden channels.
template <bool backward>
__global__ void __launch_bounds__(WideBlock::kThreads, 1)
    wide_hidden_kernel(const __grid_constant__ WideProduct product) {
  using Block = WideBlock;
  __shared__ WideState state;
  unsigned char* const ring = aligned_shared();
  if (threadIdx.x == 0) {
    state.init(Block::kGroups * kWarpgroup / 32);
    publish_barriers();
  }
  __syncthreads();
  start_in_turn();
  const int group = warpgroup();
  if (group == Block::kGroups) {
    give_registers<Block::kFewRegisters>();
    if (threadIdx.x % kWarpgroup == 0) fetch_factors<backward>(product, ring, state);
  } else {
    take_registers<Block::kManyRegisters>();
    unsigned char* const staged = ring + Block::kStages * Block::kStageBytes + group * 2 * Block::kStagedBytes;
    WideWalk<backward> walk{product, ring, staged, state, group};
    for (int64_t tile = blockIdx.x; tile < product.tiles; tile += gridDim.x) walk.take(tile);
    walk.finish();
  }
}

}  // namespace vrwkv::ops::cuda::hopper
