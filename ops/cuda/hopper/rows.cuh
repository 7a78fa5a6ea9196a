#pragma once

#include "ops/cuda/hopper/shifted_tile.cuh"

// What becomes of sums [64, C] of a warpgroup. They pass through shared memory, rounded to bfloat16, so that a warp
// then reads and writes whole rows.

namespace vrwkv::ops::cuda::hopper {

using RowSums = Sums<kChannels>;

constexpr int kRowBytes = kChannels * 2;

/// Bytes from the start of staged rows [64, n] to 16-byte piece 8 part + piece of `row`: pieces are permuted by the
/// row, so that neither the writes of sums nor reads of rows meet bank conflicts.
template <int n>
__device__ __forceinline__ int staged_offset(int row, int part, int piece) {
  return row * n * 2 + part * 128 + (piece ^ (row % 8)) * 16;
}

/// The warpgroups of a block have barriers of their own; all warps of one call this.
__device__ __forceinline__ void sync_warpgroup() {
  asm volatile("bar.sync %0, %1;" ::"r"(2 + static_cast<int>(threadIdx.x) / kWarpgroup), "n"(kWarpgroup) : "memory");
}

/// Writes a warpgroup's sums to `staged` [64, n], which none of its warps reads any more.
template <int n>
__device__ __forceinline__ void stage_rows(unsigned char* staged, const Sums<n>& sums) {
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) % kWarpgroup / 32;
#pragma unroll
  for (int piece = 0; piece < 8; ++piece) {
    unsigned char* const to = staged + staged_offset<n>(16 * warp + lane / 4, 0, piece) + lane % 4 * 4;
#pragma unroll
    for (int part = 0; part < n / kSlab; ++part) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float* const values = sums.values + 4 * (8 * part + piece) + 2 * half;
        *reinterpret_cast<uint32_t*>(to + part * 128 + half * 8 * n * 2) = rounded_pair(values[0], values[1]);
      }
    }
  }
}

/// The 16-byte pieces of rows [64, n] that a thread of a warpgroup takes, numbered: eight threads to a row.
template <int n>
struct RowPieces {
  static constexpr int kParts = n / kSlab, kRowsAtOnce = kWarpgroup / 8, kCount = kRows / kRowsAtOnce * kParts;

  static __device__ __forceinline__ int first_row() { return static_cast<int>(threadIdx.x) % kWarpgroup / 8; }
  static __device__ __forceinline__ int first_piece() { return static_cast<int>(threadIdx.x) % 8; }
  /// Rows and columns from the first of them to number i.
  static __device__ __forceinline__ constexpr int rows_to(int i) { return i / kParts * kRowsAtOnce; }
  static __device__ __forceinline__ constexpr int columns_to(int i) { return i % kParts * kSlab; }

  static __device__ __forceinline__ Bits staged(const unsigned char* rows, int i) {
    const unsigned char* const from = rows + staged_offset<n>(first_row(), 0, first_piece());
    return load_vector<kVector / 2>(reinterpret_cast<const uint32_t*>(from + rows_to(i) * n * 2 + i % kParts * 128));
  }
};

/// Stores a piece at once: the compiler splits an assignment where there is a condition into four.
__device__ __forceinline__ void store_piece(__nv_bfloat16* to, const Bits& piece) {
  __stwb(reinterpret_cast<uint4*>(to), uint4{piece.values[0], piece.values[1], piece.values[2], piece.values[3]});
}

/// Copies staged rows to `to` [count, C], from row `first` on.
__device__ __forceinline__ void copy_rows(__nv_bfloat16* to, const unsigned char* staged, int64_t first,
                                          int64_t count) {
  using Pieces = RowPieces<kChannels>;
  const int64_t row = first + Pieces::first_row();
  __nv_bfloat16* const target = to + row * kChannels + Pieces::first_piece() * kVector;
#pragma unroll
  for (int i = 0; i < Pieces::kCount; ++i) {
    const Bits values = Pieces::staged(staged, i);
    if (row + Pieces::rows_to(i) < count) {
      store_piece(target + Pieces::rows_to(i) * kChannels + Pieces::columns_to(i), values);
    }
  }
}

/// The residual sum y = x + z and what the next branch reads of it.
struct Residual {
  const float* x;       ///< [count, C]
  float* y;             ///< [count, C]
  __nv_bfloat16* feed;  ///< [count, C]; null: none.
  bool standardized;    ///< The feed: y standardised over the channels, or y itself.
  float eps;
  int64_t count;
};

/// Some rows of x of one warp: a lane has channels 2 lane + 64 i + 0, 1.
constexpr int kBatch = 4;
constexpr int kPairs = kChannels / 64;
struct RowBatch {
  Vector<float, 2> x[kBatch][kPairs];

  /// From row `first`. The loads are under way when this returns.
  __device__ __forceinline__ void load(const Residual& residual, int64_t first) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
    for (int row = 0; row < kBatch; ++row) {
      const float* const from = residual.x + (first + row) * kChannels + 2 * lane;
#pragma unroll
      for (int i = 0; i < kPairs; ++i) {
        x[row][i] = first + row < residual.count ? load_vector<2>(from + 64 * i) : Vector<float, 2>{};
      }
    }
  }
};

/// First row of this warp's share of the 64 rows from `first`.
__device__ __forceinline__ int64_t warp_row(int64_t first) {
  return first + static_cast<int>(threadIdx.x) % kWarpgroup / 32 * 16;
}

__device__ __forceinline__ float warp_sum(float part) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) part += __shfl_xor_sync(0xffffffffU, part, distance);
  return part;
}

/// One row of y to mean 0 and variance 1.
__device__ __forceinline__ void standardize(Vector<float, 2> (&y)[kPairs], float eps) {
  float sum = 0.0F, squares = 0.0F;
#pragma unroll
  for (int i = 0; i < kPairs; ++i) sum += y[i].values[0] + y[i].values[1];
  const float mean = warp_sum(sum) / kChannels;
#pragma unroll
  for (int i = 0; i < kPairs; ++i) {
    y[i].values[0] -= mean;
    y[i].values[1] -= mean;
    squares += y[i].values[0] * y[i].values[0] + y[i].values[1] * y[i].values[1];
  }
  const float scale = rsqrtf(warp_sum(squares) / kChannels + eps);
#pragma unroll
  for (int i = 0; i < kPairs; ++i) {
    y[i].values[0] *= scale;
    y[i].values[1] *= scale;
  }
}

/// Stores x + z and its feed for the staged rows z of tokens from `first`. `batch`: the warp's first rows of x.
__device__ __forceinline__ void finish_branch(const unsigned char* staged, RowBatch& batch, const Residual& to,
                                              int64_t first) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int64_t begin = warp_row(first);
#pragma unroll 1
  for (int start = 0; start < 16; start += kBatch) {
    RowBatch next;
    if (start + kBatch < 16) next.load(to, begin + start + kBatch);
#pragma unroll
    for (int row = 0; row < kBatch; ++row) {
      const int64_t token = begin + start + row;
      Vector<float, 2>(&y)[kPairs] = batch.x[row];
#pragma unroll
      for (int i = 0; i < kPairs; ++i) {
        const uint32_t z = *reinterpret_cast<const uint32_t*>(
            staged + staged_offset<kChannels>(static_cast<int>(token - first), i, lane / 4) + lane % 4 * 4);
        y[i].values[0] += low(z);
        y[i].values[1] += high(z);
        if (token < to.count) store_vector(to.y + token * kChannels + 2 * lane + 64 * i, y[i]);
      }
      if (to.feed == nullptr) continue;
      if (to.standardized) standardize(y, to.eps);
#pragma unroll
      for (int i = 0; i < kPairs; ++i) {
        if (token < to.count) {
          *reinterpret_cast<uint32_t*>(to.feed + token * kChannels + 2 * lane + 64 * i) =
              rounded_pair(y[i].values[0], y[i].values[1]);
        }
      }
    }
    batch = next;
  }
}

}  // namespace vrwkv::ops::cuda::hopper
