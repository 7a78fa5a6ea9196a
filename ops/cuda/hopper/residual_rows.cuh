#pragma once

#include "ops/cuda/hopper/shifted_rows.cuh"

namespace vrwkv::ops::cuda::hopper {

using RowSums = Sums<kChannels>;

/// The residual sum y = x + z and what the next branch reads of it.
struct Residual {
  const float* x;       ///< [count, C]
  float* y;             ///< [count, C]
  __nv_bfloat16* feed;  ///< [count, C]; null: none.
  bool standardized;    ///< The feed: y standardised over the channels, or y itself.
  float eps;
  int64_t count;
  float* rstd = nullptr;  ///< [count] or null: what a standardized feed was multiplied by.
};

constexpr int kWarpRows = 16;
constexpr int kWideRowBytes = kChannels * 4;
constexpr int kWarpRowsBytes = kWarpRows * kWideRowBytes;

/// The sum over the four threads of a row.
__device__ __forceinline__ float row_sum(float part) {
  part += __shfl_xor_sync(0xffffffffU, part, 1);
  return part + __shfl_xor_sync(0xffffffffU, part, 2);
}

/// Rows of y to mean 0 and variance 1, given the sums of what this thread has of them, and what that takes last: the
/// factors `rstd`.
__device__ __forceinline__ void standardize(RowSums& y, const float (&sum)[2], float eps, float (&rstd)[2]) {
#pragma unroll
  for (int row = 0; row < 2; ++row) {
    const float mean = row_sum(sum[row]) / kChannels;
    float squares = 0.0F;
#pragma unroll
    for (int i = 0; i < RowSums::kCount; ++i) {
      if (i / 2 % 2 != row) continue;
      y.values[i] -= mean;
      squares += y.values[i] * y.values[i];
    }
    rstd[row] = rsqrtf(row_sum(squares) / kChannels + eps);
#pragma unroll
    for (int i = 0; i < RowSums::kCount; ++i) {
      if (i / 2 % 2 == row) y.values[i] *= rstd[row];
    }
  }
}

/// A warp's 16 rows of a warpgroup's 64 in shared memory: x, then y in its place, which one copy each brings and takes
/// away while products run.
struct WarpRows {
  unsigned char* rows;
  Barrier& there;

  static __device__ __forceinline__ int lane() { return static_cast<int>(threadIdx.x) % 32; }

  /// Starts to fetch x from row `first` on, when the last y has been taken away.
  __device__ __forceinline__ void fetch(const Residual& from, int64_t first) const {
    if (lane() != 0) return;
    const int bytes = existing(from, first) * kWideRowBytes;
    wait_stores_read();
    there.expect(bytes);
    if (bytes > 0) copy_bulk_last(rows, from.x + first * kChannels, bytes, there);
  }

  /// Stores x + z and its feed; x as it was fetched in a phase of this parity.
  __device__ __forceinline__ void finish(RowSums& z, const Residual& to, int64_t first, int parity) const {
    float sum[2] = {};
    there.wait(parity);
    const bool odd =
        lane() / 4 % 2 != 0;  // Of rows side by side one takes the halves the other way: no bank conflicts.
#pragma unroll
    for (int i = 0; i < kSpans * 2; ++i) {
      const int span = i / 2, row = i % 2;
      auto* const place = reinterpret_cast<float*>(rows + (lane() / 4 + 8 * row) * kWideRowBytes) + span * kSpan +
                          sums_part() * kVector;
      auto one = load_vector<4>(place + (odd ? 4 : 0)), two = load_vector<4>(place + (odd ? 0 : 4));
      swap_where(odd, one, two);
#pragma unroll
      for (int c = 0; c < kVector; ++c) {
        float& value = z.values[4 * (4 * span + c / 2) + 2 * row + c % 2];
        float& y = c < 4 ? one.values[c % 4] : two.values[c % 4];
        value += y;
        y = value;
        sum[row] += value;
      }
      swap_where(odd, one, two);
      store_vector(place + (odd ? 4 : 0), one);
      store_vector(place + (odd ? 0 : 4), two);
    }
    publish_writes();
    const int count = existing(to, first);
    __syncwarp();
    if (lane() == 0 && count > 0) store_bulk(to.y + first * kChannels, rows, count * kWideRowBytes);
    if (lane() == 0) end_stores();
    if (to.feed != nullptr) {
      float rstd[2];
      if (to.standardized) standardize(z, sum, to.eps, rstd);
#pragma unroll
      for (int row = 0; row < 2; ++row) {
        const int at = lane() / 4 + 8 * row;
        if (at >= count) continue;
        store_row<kSpans>(to.feed + (first + at) * kChannels, z, row);
        if (to.rstd != nullptr && sums_part() == 0) to.rstd[first + at] = rstd[row];
      }
    }
  }

 private:
  static __device__ __forceinline__ void swap_where(bool condition, Vector<float, 4>& one, Vector<float, 4>& two) {
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      const float first = one.values[c], second = two.values[c];
      one.values[c] = condition ? second : first;
      two.values[c] = condition ? first : second;
    }
  }

  static __device__ __forceinline__ int existing(const Residual& of, int64_t first) {
    const int64_t left = of.count - first;
    return left < 0 ? 0 : left < kWarpRows ? static_cast<int>(left) : kWarpRows;
  }
};

}  // namespace vrwkv::ops::cuda::hopper
