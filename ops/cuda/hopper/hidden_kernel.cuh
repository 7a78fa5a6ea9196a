#pragma once

#include <cuda_pipeline.h>

#include "ops/cuda/dependent_launch.cuh"
#include "ops/cuda/fast_math.cuh"
#include "ops/cuda/hopper/pack_layers.cuh"
#include "ops/cuda/hopper/weight_ring.cuh"

// Hidden channels of an MLP with a squared ReLU, and their gradient: a product [tokens, C] x [C, H] of which a
// warpgroup has the rows of 64 tokens in shared memory and takes the columns chunk by chunk. A chunk's sums go to
// shared memory, rounded; while the next chunk's products run, the squared ReLU or its gradient is applied to whole
// 16-byte pieces of rows on their way to global memory.

namespace vrwkv::ops::cuda::hopper {

/// How a block is made, for C = kChannels. A unit of weights is a chunk of hidden channels. The products are short: the
/// more tokens share a unit, the less the second cache has to give.
struct HiddenBlock {
  static constexpr int kChannels = 192, kGroups = 4, kChunk = kSlab, kStages = 4;
  static constexpr int kTokens = kGroups * kRows;
  static constexpr int kUnitBytes = kChunk * kChannels * 2;
  static constexpr int kTileBytes = kRows * kChannels * 2, kStagedBytes = kRows * kChunk * 2;
  static constexpr int kShared = kGroups * (kTileBytes + kStagedBytes) + kStages * kUnitBytes + kSlabAlign;
  using Ring = WeightRing<kStages, kGroups * kWarpgroup / 32, kUnitBytes>;
  using Pieces = RowPieces<kChunk>;
};

struct HiddenProduct {
  const __nv_bfloat16* tokens;  ///< [count, C]
  const unsigned char* packed;  ///< Units of `chunks` chunks, see pack_hidden_kernel.
  const __nv_bfloat16* hidden;  ///< [count, H], what the gradient is of; null in the forward pass.
  __nv_bfloat16* out;           ///< [count, H]
  int64_t count;
  int chunks;        ///< Of H.
  int64_t items;     ///< Chunks of all tiles, one tile's behind the other's.
  int64_t of_block;  ///< Items that a block takes, one after the other.
};

/// relu(x)^2 of eight numbers. Squares of bfloat16 are exact in float32, so one rounding remains; a NaN stays one.
__device__ __forceinline__ Bits squared_relu(const Bits& x) {
  Bits y;
#pragma unroll
  for (int i = 0; i < kVector / 2; ++i) {
    asm("{\n.reg .b32 relu;\n"
        "max.NaN.bf16x2 relu, %1, %2;\n"
        "mul.rn.bf16x2 %0, relu, relu;\n}\n"
        : "=r"(y.values[i])
        : "r"(x.values[i]), "r"(0));
  }
  return y;
}

/// The gradient 2 sqrt(y) gy of relu(x)^2, given its result.
__device__ __forceinline__ Bits squared_relu_gradient(const Bits& gy, const Bits& y) {
  const auto twice_root = [](float square) {
    const float root = fast_sqrt(square);
    return root + root;
  };
  Bits gx;
#pragma unroll
  for (int i = 0; i < kVector / 2; ++i) {
    gx.values[i] = rounded_pair(twice_root(low(y.values[i])) * low(gy.values[i]),
                                twice_root(high(y.values[i])) * high(gy.values[i]));
  }
  return gx;
}

/// Where a thread's pieces of a warpgroup's results of an item are.
struct HiddenPlace {
  int64_t offset = 0;  ///< Of the first one's elements.
  int rows = 0;        ///< Behind the first one's, itself included, that exist.
};

/// Starts to copy the tokens from `first` on to a warpgroup's tile; rows behind the last one stay anything.
__device__ __forceinline__ void start_tile(unsigned char* tile, const HiddenProduct& product, int64_t first) {
  constexpr int kChannels = HiddenBlock::kChannels;
  using Pieces = RowPieces<kChannels>;
  const int64_t row = first + Pieces::first_row();
  const __nv_bfloat16* const from = product.tokens + row * kChannels + Pieces::first_piece() * kVector;
  unsigned char* const to = tile + slab_offset(Pieces::first_row(), Pieces::first_piece() * kVector);
#pragma unroll
  for (int i = 0; i < Pieces::kCount; ++i) {
    if (row + Pieces::rows_to(i) < product.count) {
      __pipeline_memcpy_async(to + i % Pieces::kParts * kRows * 128 + Pieces::rows_to(i) * 128,
                              from + Pieces::rows_to(i) * kChannels + Pieces::columns_to(i), 16);
    }
  }
  __pipeline_commit();
}

/// A warpgroup's way through a block's items.
template <bool backward>
struct HiddenWalk {
  using Block = HiddenBlock;
  using Pieces = Block::Pieces;

  const HiddenProduct& product;
  unsigned char *tile, *staged;
  int64_t first;            ///< Token of the warpgroup's first row.
  int chunk;                ///< Of H.
  HiddenPlace now, before;  ///< Of the item that is multiplied, and of the one whose results are staged.
  Bits hidden[Pieces::kCount] = {};

  __device__ __forceinline__ int64_t width() const { return static_cast<int64_t>(product.chunks) * Block::kChunk; }

  __device__ __forceinline__ void place_item() {
    const int64_t row = first + Pieces::first_row(), left = product.count - row;
    now.offset = row * width() + static_cast<int64_t>(chunk) * Block::kChunk + Pieces::first_piece() * kVector;
    now.rows = static_cast<int>(left < 0 ? 0 : left < kRows ? left : kRows);
  }

  /// Writes the results before; the gradient's pieces of what it is multiplied with follow in their registers.
  __device__ __forceinline__ void write() {
    const int64_t stride = width();
#pragma unroll
    for (int i = 0; i < Pieces::kCount; ++i) {
      const int64_t to = Pieces::rows_to(i) * stride + Pieces::columns_to(i);
      const Bits sums = Pieces::staged(staged, i);
      const Bits results = backward ? squared_relu_gradient(sums, hidden[i]) : squared_relu(sums);
      if (Pieces::rows_to(i) < before.rows) store_piece(product.out + before.offset + to, results);
      if (backward && Pieces::rows_to(i) < now.rows) {
        hidden[i] = load_vector<kVector / 2>(reinterpret_cast<const uint32_t*>(product.hidden + now.offset + to));
      }
    }
  }

  /// One item, unit `unit` of `ring`: its products, beside them the results of the item before, and its sums staged.
  __device__ __forceinline__ void take(const Block::Ring& ring, int unit) {
    Sums<Block::kChunk> sums;
    clear(sums);
    const unsigned char* const weights = ring.wait(unit);
    begin_products();
    start_product<Block::kChannels / kStep>(sums, tile, weights);
    end_products();
    write();
    wait_products<0>();
    hold(sums);
    ring.release(unit);
    sync_warpgroup();  // The staged results have been read.
    stage_rows(staged, sums);
    sync_warpgroup();
  }
};

/// out = relu(tokens weights^T)^2, or in the backward pass (tokens weights^T) * 2 sqrt(hidden), the product rounded to
/// bfloat16 first.
template <bool backward>
__global__ void __launch_bounds__(HiddenBlock::kGroups* kWarpgroup, 1)
    hidden_kernel(const __grid_constant__ HiddenProduct product) {
  using Block = HiddenBlock;
  __shared__ RingState<Block::kStages> state;
  unsigned char* const shared = aligned_shared();
  const int64_t begin = blockIdx.x * product.of_block, left = product.items - begin;
  const int items = static_cast<int>(left < product.of_block ? left : product.of_block);
  const int group = warpgroup();
  HiddenWalk<backward> walk{product, shared + group * Block::kTileBytes,
                            shared + Block::kGroups * Block::kTileBytes + group * Block::kStagedBytes,
                            begin / product.chunks * Block::kTokens + group * kRows,
                            static_cast<int>(begin % product.chunks)};
  const Block::Ring ring{shared + Block::kGroups * (Block::kTileBytes + Block::kStagedBytes),
                         product.packed,
                         product.chunks,
                         items,
                         state,
                         walk.chunk};
  start_in_turn();
  if (threadIdx.x % kWarpgroup == 0) prefetch_rows(product.tokens, Block::kChannels * 2, walk.first, product.count);
  if (threadIdx.x == 0) ring.start();
  __syncthreads();
  for (int item = 0; item < items; ++item) {
    walk.place_item();
    if (item == 0 || walk.chunk == 0) {
      start_tile(walk.tile, product, walk.first);
      if (threadIdx.x % kWarpgroup == 0 && item + product.chunks - walk.chunk < items) {
        prefetch_rows(product.tokens, Block::kChannels * 2, walk.first + Block::kTokens, product.count);
      }
      __pipeline_wait_prior(0);
      publish_writes();
      sync_warpgroup();
    }
    walk.take(ring, item);
    walk.before = walk.now;
    if (++walk.chunk == product.chunks) {
      walk.chunk = 0;
      walk.first += Block::kTokens;
    }
  }
  walk.now = {};
  walk.write();
}

constexpr int kHiddenPackThreads = 256;

/// The weights of hidden channel h from channel c on: element (h, c) is from[h * stride + c], or transposed
/// from[c * stride + h]. Threads side by side should read side by side.
template <bool transposed>
__device__ __forceinline__ void read_weights(const float* from, int64_t stride, int64_t h, int64_t c,
                                             Vector<float, 4> (&halves)[2]) {
  const float* const values = transposed ? from + c * stride + h : from + h * stride + c;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    if (transposed) {
#pragma unroll
      for (int i = 0; i < 4; ++i) halves[half].values[i] = values[(4 * half + i) * stride];
    } else {
      halves[half] = load_vector<4>(values + 4 * half);
    }
  }
}

/// Weights of layers.
using MatrixList = PackList<const float*>;

/// Packs weights [H, C], element (h, c) at from[h * stride + c], or transposed from[c * stride + h]: chunk after
/// chunk of H. blockIdx.x: the chunk; blockIdx.y: kHiddenPackThreads of its pieces; blockIdx.z: the layer.
template <bool transposed>
__global__ void __launch_bounds__(kHiddenPackThreads)
    pack_hidden_kernel(const __grid_constant__ MatrixList list, int64_t stride, unsigned char* packed) {
  using Block = HiddenBlock;
  constexpr int kPiecesOfRow = Block::kChannels / kVector;
  static_assert(Block::kChunk * kPiecesOfRow % kHiddenPackThreads == 0);
  const int unit = static_cast<int>(blockIdx.x);
  const int piece = static_cast<int>(blockIdx.y) * kHiddenPackThreads + static_cast<int>(threadIdx.x);
  const int row = transposed ? piece % Block::kChunk : piece / kPiecesOfRow;
  const int column = (transposed ? piece / Block::kChunk : piece % kPiecesOfRow) * kVector;
  Vector<float, 4> halves[2];
  start_in_turn();
  read_weights<transposed>(list.layers[blockIdx.z], stride, static_cast<int64_t>(unit) * Block::kChunk + row, column,
                           halves);
  pack_piece(packed + (static_cast<int64_t>(blockIdx.z) * gridDim.x + unit) * Block::kUnitBytes, Block::kChunk, row,
             column, halves[0], halves[1]);
}

}  // namespace vrwkv::ops::cuda::hopper
