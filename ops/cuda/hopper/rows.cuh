#pragma once

#include "ops/cuda/hopper/block.cuh"

// What becomes of sums [64, C] of a warpgroup. They pass through shared memory, rounded to bfloat16, so that a warp
// then reads and writes whole rows.

namespace vrwkv::ops::cuda::hopper {

/// Bytes from the start of staged rows [64, n] to 16-byte piece 8 part + piece of `row`: pieces are permuted by the
/// row, so that neither the writes of sums nor reads of rows meet bank conflicts.
template <int n>
__device__ __forceinline__ int staged_offset(int row, int part, int piece) {
  return row * n * 2 + part * 128 + (piece ^ (row % 8)) * 16;
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

/// Writes a warp's rounded sums [16, 16], pairs in the order of Sums, as four 8 x 8 matrices: lane i has the address of
/// row i % 16, of its first 16 bytes or, from lane 16 on, of its second ones.
__device__ __forceinline__ void store_matrices(void* row, const uint32_t* pairs) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(shared_address(row)),
               "r"(pairs[0]), "r"(pairs[1]), "r"(pairs[2]), "r"(pairs[3])
               : "memory");
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

}  // namespace vrwkv::ops::cuda::hopper
