#pragma once

#include <cuda_pipeline.h>

#include "ops/cuda/fast_math.cuh"
#include "ops/cuda/hopper/weight_ring.cuh"

// Hidden channels of an MLP with a squared ReLU, and their gradient: a product [tokens, C] x [C, H] of which a
// warpgroup has the rows of 64 tokens in shared memory and takes the columns chunk by chunk. A chunk's sums go to
// shared memory, rounded; while the next chunk's products run, the squared ReLU or its gradient is applied to whole
// 16-byte pieces of rows on their way to global memory.

namespace vrwkv::ops::cuda::hopper {

/// How a block is made for C channels. A unit of weights is kChunk hidden channels by kUnitColumns channels.
template <int channels>
struct HiddenShape;

/// The products are short: the more tokens share a unit of weights, the less the second cache has to give.
template <>
struct HiddenShape<192> {
  static constexpr int kGroups = 4, kChunk = 64, kUnitColumns = 192, kStages = 4;
};

template <int channels>
struct HiddenBlock : HiddenShape<channels> {
  using Shape = HiddenShape<channels>;
  static constexpr int kTokens = Shape::kGroups * kRows;
  static constexpr int kUnits = channels / Shape::kUnitColumns;  ///< Of a chunk.
  static constexpr int kUnitBytes = Shape::kChunk * Shape::kUnitColumns * 2;
  static constexpr int kTileBytes = kRows * channels * 2, kStagedBytes = kRows * Shape::kChunk * 2;
  static constexpr int kShared =
      Shape::kGroups * (kTileBytes + kStagedBytes) + Shape::kStages * kUnitBytes + kSlabAlign;
  using Ring = WeightRing<Shape::kStages, Shape::kGroups * kWarpgroup / 32, kUnitBytes>;
  using Pieces = RowPieces<Shape::kChunk>;
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
template <int channels>
__device__ __forceinline__ void start_tile(unsigned char* tile, const HiddenProduct& product, int64_t first) {
  using Pieces = RowPieces<channels>;
  const int64_t row = first + Pieces::first_row();
  const __nv_bfloat16* const from = product.tokens + row * channels + Pieces::first_piece() * kVector;
  unsigned char* const to = tile + slab_offset(Pieces::first_row(), Pieces::first_piece() * kVector);
#pragma unroll
  for (int i = 0; i < Pieces::kCount; ++i) {
    if (row + Pieces::rows_to(i) < product.count) {
      __pipeline_memcpy_async(to + i % Pieces::kParts * kRows * 128 + Pieces::rows_to(i) * 128,
                              from + Pieces::rows_to(i) * channels + Pieces::columns_to(i), 16);
    }
  }
  __pipeline_commit();
}

/// A warpgroup's way through a block's items.
template <int channels, bool backward>
struct HiddenWalk {
  using Block = HiddenBlock<channels>;
  using Pieces = typename Block::Pieces;

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

  /// Writes part `part` of `parts` of the results before; the gradient's pieces of what it is multiplied with follow in
  /// their registers.
  template <int parts>
  __device__ __forceinline__ void write(int part) {
    const int64_t stride = width();
#pragma unroll
    for (int i = Pieces::kCount * part / parts; i < Pieces::kCount * (part + 1) / parts; ++i) {
      const int64_t to = Pieces::rows_to(i) * stride + Pieces::columns_to(i);
      const Bits sums = Pieces::staged(staged, i);
      const Bits results = backward ? squared_relu_gradient(sums, hidden[i]) : squared_relu(sums);
      if (Pieces::rows_to(i) < before.rows) store_piece(product.out + before.offset + to, results);
      if (backward && Pieces::rows_to(i) < now.rows) {
        hidden[i] = load_vector<kVector / 2>(reinterpret_cast<const uint32_t*>(product.hidden + now.offset + to));
      }
    }
  }

  /// One item, the chunk of `ring` from `unit` on: its products, beside them the results of the item before, and its
  /// sums staged.
  __device__ __forceinline__ void take(const typename Block::Ring& ring, int unit) {
    constexpr int kUnitSlabs = Block::kUnitColumns / kSlab;
    Sums<Block::kChunk> sums;
    clear(sums);
#pragma unroll
    for (int part = 0; part < Block::kUnits; ++part) {
      const unsigned char* const weights = ring.wait(unit + part);
      begin_products();
      start_product<Block::kUnitColumns / kStep>(sums, tile + part * kUnitSlabs * kRows * 128, weights, part > 0);
      end_products();
      if (part > 0) {
        wait_products<1>();
        ring.release(unit + part - 1);
      }
      write<Block::kUnits>(part);
    }
    wait_products<0>();
    hold(sums);
    ring.release(unit + Block::kUnits - 1);
    sync_warpgroup();  // The staged results have been read.
    stage_rows(staged, sums);
    sync_warpgroup();
  }
};

/// out = relu(tokens weights^T)^2, or in the backward pass (tokens weights^T) * 2 sqrt(hidden), the product rounded to
/// bfloat16 first.
template <int channels, bool backward>
__global__ void __launch_bounds__(HiddenShape<channels>::kGroups* kWarpgroup, 1)
    hidden_kernel(const __grid_constant__ HiddenProduct product) {
  using Block = HiddenBlock<channels>;
  __shared__ RingState<Block::kStages> state;
  unsigned char* const shared = aligned_shared();
  const int64_t begin = blockIdx.x * product.of_block, left = product.items - begin;
  const int items = static_cast<int>(left < product.of_block ? left : product.of_block);
  const int group = warpgroup();
  HiddenWalk<channels, backward> walk{product, shared + group * Block::kTileBytes,
                                      shared + Block::kGroups * Block::kTileBytes + group * Block::kStagedBytes,
                                      begin / product.chunks * Block::kTokens + group * kRows,
                                      static_cast<int>(begin % product.chunks)};
  const typename Block::Ring ring{shared + Block::kGroups * (Block::kTileBytes + Block::kStagedBytes),
                                  product.packed,
                                  product.chunks * Block::kUnits,
                                  items * Block::kUnits,
                                  state,
                                  walk.chunk * Block::kUnits};
  if (threadIdx.x % kWarpgroup == 0) prefetch_rows(product.tokens, channels * 2, walk.first, product.count);
  if (threadIdx.x == 0) ring.start();
  __syncthreads();
  for (int item = 0; item < items; ++item) {
    walk.place_item();
    if (item == 0 || walk.chunk == 0) {
      start_tile<channels>(walk.tile, product, walk.first);
      if (threadIdx.x % kWarpgroup == 0 && item + product.chunks - walk.chunk < items) {
        prefetch_rows(product.tokens, channels * 2, walk.first + Block::kTokens, product.count);
      }
      __pipeline_wait_prior(0);
      publish_writes();
      sync_warpgroup();
    }
    walk.take(ring, item * Block::kUnits);
    walk.before = walk.now;
    if (++walk.chunk == product.chunks) {
      walk.chunk = 0;
      walk.first += Block::kTokens;
    }
  }
  walk.now = {};
  walk.template write<1>(0);
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

/// Packs weights [H, C], element (h, c) at from[h * stride + c], or transposed from[c * stride + h]: units of chunk
/// after chunk of H, of a chunk those of channels after channels. blockIdx.x: the unit; blockIdx.y:
/// kHiddenPackThreads of its pieces.
template <int channels, bool transposed>
__global__ void __launch_bounds__(kHiddenPackThreads)
    pack_hidden_kernel(const float* from, int64_t stride, unsigned char* packed) {
  using Block = HiddenBlock<channels>;
  constexpr int kPiecesOfRow = Block::kUnitColumns / kVector;
  static_assert(Block::kChunk * kPiecesOfRow % kHiddenPackThreads == 0);
  const int unit = static_cast<int>(blockIdx.x);
  const int piece = static_cast<int>(blockIdx.y) * kHiddenPackThreads + static_cast<int>(threadIdx.x);
  const int row = transposed ? piece % Block::kChunk : piece / kPiecesOfRow;
  const int column = (transposed ? piece / Block::kChunk : piece % kPiecesOfRow) * kVector;
  const int64_t h = static_cast<int64_t>(unit / Block::kUnits) * Block::kChunk + row;
  const int64_t c = unit % Block::kUnits * Block::kUnitColumns + column;
  Vector<float, 4> halves[2];
  read_weights<transposed>(from, stride, h, c, halves);
  pack_piece(packed + static_cast<int64_t>(unit) * Block::kUnitBytes, Block::kChunk, row, column, halves[0], halves[1]);
}

}  // namespace vrwkv::ops::cuda::hopper
