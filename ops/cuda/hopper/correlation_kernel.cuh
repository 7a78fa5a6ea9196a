#pragma once

#include "ops/cuda/dependent_launch.cuh"
#include "ops/cuda/hopper/tensor_map.cuh"
#include "ops/cuda/hopper/tile_rows.cuh"

// What the gradients of token_shift_linear's parameters are made of: sums over the tokens t of G[t, o] x[t, c] and of
// G[t, o] shift(x)[t, c], where G are the gradients of the linear layers' results. Neither the norm nor a mix is in
// them: both are linear in x for each channel, and join the finished sums.

namespace vrwkv::ops::cuda::hopper {

constexpr int kGradients = 3;                  ///< Of as many linear layers, side by side: G is [count, kGradients C].
constexpr int kCorrelations = kGradients * 2;  ///< Of each with x and with its shift: matrices [C, kColumns].

/// Columns of a matrix: C channels; the sums of G over all tokens; over those with a left, a right, an upper and a
/// lower neighbour, which is what the norm's bias is multiplied by; none.
constexpr int kColumns = kChannels + 8;
constexpr int kAllColumn = kChannels, kNeighbourColumn = kChannels + 1;

constexpr int kSumGroups = kChannels / kRows;  ///< Warpgroups that multiply, each kRows rows of a matrix.
constexpr int kTransposedSlab = kSlab * 128;   ///< Bytes of kSlab tokens of 64 channels.
constexpr int kTileBytes = (2 * kTileSlabs + 1) * kTransposedSlab;  ///< Gradients, tokens, marks of neighbours.
constexpr int kTiles = 4;                                           ///< On their way at once.
constexpr int kCorrelationShared = kTiles * kTileBytes + kSlabAlign;

constexpr int kTileSlabsBytes = kTileSlabs * kTransposedSlab;  ///< Of a tile's gradients, as of its tokens.

struct Correlation {
  ShiftedTokens from;             ///< Its weight and bias are not used.
  CUtensorMap gradients, tokens;  ///< Boxes of kSlab rows and kTileSlabs slabs.
  float* parts;  ///< [parts, kCorrelations, C, kColumns]; matrix 2 i is of G_i with x, 2 i + 1 with its shift.
  int span;      ///< Tokens of a part, a multiple of kSlab.
};

struct TileBarriers {
  Barrier full[kTiles], read[kTiles];
};

/// Marks of the neighbours that the rows of a tile have, all marked as tokens. Behind the end there are no gradients
/// either. Eight threads to a row, of which the first writes.
__device__ __forceinline__ void write_marks(unsigned char* tile, unsigned edges) {
  constexpr uint32_t kOne = 0x3f80;  // 1 in bfloat16
  if (TileRows::piece() != 0) return;
  unsigned char* const to = tile + 2 * kTileSlabsBytes + slab_offset(TileRows::row(), 0);
#pragma unroll
  for (int i = 0; i < TileRows::kEach; ++i) {
    const auto mark = [&](int bit) { return (edges >> (4 * i + bit) & 1U) * kOne; };
    const Bits marks{{kOne | mark(0) << 16, mark(1) | mark(2) << 16, mark(3), 0}};
    store_vector(reinterpret_cast<uint32_t*>(to + i * TileRows::kRowsAtOnce * 128), marks);
  }
}

/// The last warpgroup brings tile after tile of kSlab tokens; those behind the end are zeros.
__device__ __forceinline__ void bring_tiles(const Correlation& arguments, const ShiftedTokens& part, int64_t first,
                                            int matrix, unsigned char* memory, TileBarriers& barriers) {
  const bool shifts = matrix % 2 != 0, copies = threadIdx.x % kWarpgroup == 0;
  if (!shifts && !copies) return;
  TileRows rows(part, first);
  for (int tile = 0; first < part.count; ++tile, first += kSlab) {
    unsigned char* const to = memory + tile % kTiles * kTileBytes;
    Barrier& full = barriers.full[tile % kTiles];
    barriers.read[tile % kTiles].wait((tile / kTiles + 1) % 2);
    if (copies) {
      full.expect(shifts ? kTileSlabsBytes : 2 * kTileSlabsBytes);
      copy_box(to, arguments.gradients, static_cast<int>(first), matrix / 2 * kTileSlabs, full);
      if (!shifts) copy_box(to + kTileSlabsBytes, arguments.tokens, static_cast<int>(first), 0, full);
    }
    if (!shifts) continue;
    unsigned char* const others = to + kTileSlabsBytes + slab_offset(TileRows::row(), TileRows::piece() * kVector);
#pragma unroll
    for (int slab = 0; slab < kTileSlabs; ++slab) {
      const int of = tile_group(slab), step = neighbour_distance(of, part.width);
      const __nv_bfloat16* const from = rows.here + tile_vector(slab) * kVector + step * kChannels;
#pragma unroll
      for (int i = 0; i < TileRows::kEach; ++i) {
        copy_piece(others + slab * kTransposedSlab + i * TileRows::kRowsAtOnce * 128,
                   from + i * TileRows::kRowsAtOnce * kChannels, (rows.edges >> (4 * i + of) & 1U) != 0);
      }
    }
    write_marks(to, rows.edges);
    full.arrive_behind_copies();
    full.arrive();                         // Behind the marks.
    rows = TileRows(part, first + kSlab);  // While copies are on their way.
  }
}

/// One matrix of one part: block kCorrelations part + matrix.
__global__ void __launch_bounds__((kSumGroups + 1) * kWarpgroup, 1)
    correlation_kernel(const __grid_constant__ Correlation arguments) {
  __shared__ TileBarriers barriers;
  unsigned char* const memory = aligned_shared();
  const int matrix = static_cast<int>(blockIdx.x) % kCorrelations;
  const int64_t first = int64_t{blockIdx.x / kCorrelations} * arguments.span;
  ShiftedTokens part = arguments.from;
  part.count = min(part.count, first + arguments.span);
  const int group = static_cast<int>(threadIdx.x) / kWarpgroup;
  if (threadIdx.x == 0) {
    for (int i = 0; i < kTiles; ++i) {
      barriers.full[i].init(1 + (matrix % 2 != 0 ? 2 * kWarpgroup : 0));
      barriers.read[i].init(kSumGroups * kWarpgroup / 32);
    }
    publish_barriers();
  }
  if (matrix % 2 == 0 && group == kSumGroups) {
    for (int i = 0; i < kTiles; ++i) write_marks(memory + i * kTileBytes, 0);
    publish_writes();
  }
  __syncthreads();
  start_in_turn();
  if (group == kSumGroups) {
    bring_tiles(arguments, part, first, matrix, memory, barriers);
    return;
  }
  Sums<kColumns> sums;
  clear(sums);
  const int tokens = static_cast<int>(part.count - first);
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll 1
  for (int tile = 0; tile * kSlab < tokens; ++tile) {
    const unsigned char* const gradients = memory + tile % kTiles * kTileBytes;
    barriers.full[tile % kTiles].wait(tile / kTiles % 2);
    publish_writes();
    begin_products();
#pragma unroll
    for (int step = 0; step < kSlab / kStep; ++step) {
      multiply_transposed(sums, transposed_factor(gradients + group * kTransposedSlab, step),
                          transposed_factor(gradients + kTileSlabsBytes, step));
    }
    end_products();
    wait_products<1>();  // All but this tile's.
    if (tile > 0 && lane == 0) barriers.read[(tile - 1) % kTiles].arrive();
  }
  wait_products<0>();
  hold(sums);
  const int warp = static_cast<int>(threadIdx.x) / 32;
  float* const to =
      arguments.parts + (int64_t{blockIdx.x} * kChannels + 16 * warp + lane / 4) * kColumns + lane % 4 * 2;
#pragma unroll
  for (int j = 0; j < kColumns / 8; ++j) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      store_vector(to + half * 8 * kColumns + 8 * j,
                   Vector<float, 2>{sums.values[4 * j + 2 * half], sums.values[4 * j + 2 * half + 1]});
    }
  }
}

}  // namespace vrwkv::ops::cuda::hopper
