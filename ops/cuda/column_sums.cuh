#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

// The second stage of sums over tokens: the blocks of a first kernel leave a row of partial sums each, and these rows
// are added up. The order is fixed, so two runs give equal bits.

namespace vrwkv::ops::cuda {

/// The sum of parts (contiguous, float32 or float64) over dimension `dim`, as parts.sum(dim). Made for hundreds or
/// thousands of rows, which LibTorch's kernel gives to too few threads.
at::Tensor column_sums(const at::Tensor& parts, int64_t dim);

/// Threads of a block, which takes `kSumColumns` columns: in float32 what one 32-byte sector holds.
constexpr int kSumThreads = 512;
constexpr int kFewSumThreads = 256;  ///< For rows that as many threads read in one turn.
constexpr int kSumColumns = 8;
constexpr int kSumsAhead = 8;  ///< Rows that a thread reads at once.

/// The column of this thread.
__device__ __forceinline__ int64_t sum_column() {
  return static_cast<int64_t>(blockIdx.x) * kSumColumns + threadIdx.x % kSumColumns;
}

/// The sums over the rows of `kMatrices` consecutive matrices [rows, columns], each of column sum_column(): true in the
/// threads that have them, one for each column that there is. All kThreads threads of the block must call it, once.
template <int kMatrices, int kThreads = kSumThreads, typename T>
__device__ __forceinline__ bool sum_rows(const T* __restrict__ matrices, int64_t rows, int64_t columns,
                                         T (&sums)[kMatrices]) {
  constexpr int kWarp = 32, kWarps = kThreads / kWarp, kGroups = kThreads / kSumColumns, kAhead = kSumsAhead;
  __shared__ T shared[kMatrices][kWarps][kSumColumns];
  const int64_t column = sum_column();
  const int thread = static_cast<int>(threadIdx.x), warp = thread / kWarp, lane = thread % kWarp;
#pragma unroll
  for (int m = 0; m < kMatrices; ++m) sums[m] = 0;
  // All loads of a turn are in flight together: those past the end read the last row, and are not added.
  const int64_t read_column = min(column, columns - 1);
#pragma unroll 1
  for (int64_t first = thread / kSumColumns; first < rows; first += kAhead * kGroups) {
    T ahead[kMatrices][kAhead];
#pragma unroll
    for (int m = 0; m < kMatrices; ++m) {
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        const int64_t row = first + i * kGroups;
        const T read = matrices[(m * rows + min(row, rows - 1)) * columns + read_column];
        ahead[m][i] = row < rows ? read : T(0);
      }
    }
#pragma unroll
    for (int m = 0; m < kMatrices; ++m) {
#pragma unroll
      for (int i = 0; i < kAhead; ++i) sums[m] += ahead[m][i];
    }
  }
#pragma unroll
  for (int m = 0; m < kMatrices; ++m) {
    for (int offset = kWarp / 2; offset >= kSumColumns; offset /= 2) {
      sums[m] += __shfl_xor_sync(0xffffffffU, sums[m], offset);
    }
    if (lane < kSumColumns) shared[m][warp][lane] = sums[m];
  }
  __syncthreads();
  if (thread >= kSumColumns || column >= columns) return false;
#pragma unroll
  for (int m = 0; m < kMatrices; ++m) {
    sums[m] = 0;
#pragma unroll
    for (int i = 0; i < kWarps; ++i) sums[m] += shared[m][i][lane];
  }
  return true;
}

}  // namespace vrwkv::ops::cuda
