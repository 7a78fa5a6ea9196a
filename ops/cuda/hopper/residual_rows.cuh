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
};

constexpr int kWarpRows = 16;
constexpr int kWideRowBytes = kChannels * 4;
constexpr int kStagedRows = kWarpRows / 2;  ///< Of them in shared memory: a thread's first one.
constexpr int kWarpRowsBytes = kStagedRows * kWideRowBytes;

/// The sum over the four threads of a row.
__device__ __forceinline__ float row_sum(float part) {
  part += __shfl_xor_sync(0xffffffffU, part, 1);
  return part + __shfl_xor_sync(0xffffffffU, part, 2);
}

/// Rows of y to mean 0 and variance 1, given the sums of what this thread has of them.
__device__ __forceinline__ void standardize(RowSums& y, const float (&sum)[2], float eps) {
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
    const float scale = rsqrtf(row_sum(squares) / kChannels + eps);
#pragma unroll
    for (int i = 0; i < RowSums::kCount; ++i) {
      if (i / 2 % 2 == row) y.values[i] *= scale;
    }
  }
}

/// A warp's 16 rows of a warpgroup's 64. Of a thread's two the first passes through shared memory: x, then y in its
/// place, which one copy each brings and takes away while products run. The second one's x comes in registers once the
/// products have left some, so that the ring of weights has the memory.
struct WarpRows {
  unsigned char* rows;
  Barrier& there;

  /// x of a thread's second row.
  struct Second {
    Vector<float, 4> x[kSpans][2];

    /// The loads are under way when this returns.
    __device__ __forceinline__ Second(const Residual& from, int64_t first) {
      const int64_t row = first + kStagedRows + lane() / 4;
      const float* const at = from.x + (row < from.count ? row : 0) * kChannels + sums_part() * kVector;
#pragma unroll
      for (int i = 0; i < kSpans * 2; ++i) x[i / 2][i % 2] = load_vector<4>(at + i / 2 * kSpan + i % 2 * 4);
    }
  };

  static __device__ __forceinline__ int lane() { return static_cast<int>(threadIdx.x) % 32; }

  /// Starts to fetch x from row `first` on, when the last y has been taken away.
  __device__ __forceinline__ void fetch(const Residual& from, int64_t first) const {
    if (lane() != 0) return;
    const int bytes = min(existing(from, first), kStagedRows) * kWideRowBytes;
    wait_stores_read();
    there.expect(bytes);
    if (bytes > 0) copy_bulk(rows, from.x + first * kChannels, bytes, there);
  }

  /// Stores x + z and its feed; x as it was fetched in a phase of this parity, and `second`.
  __device__ __forceinline__ void finish(RowSums& z, const Second& second, const Residual& to, int64_t first,
                                         int parity) const {
    const int count = existing(to, first), row = lane() / 4;
    float sum[2];
    there.wait(parity);
    sum[0] = add_staged(z);
    publish_writes();
    __syncwarp();
    if (lane() == 0 && count > 0) store_bulk(to.y + first * kChannels, rows, min(count, kStagedRows) * kWideRowBytes);
    if (lane() == 0) end_stores();
    sum[1] = add_second(z, second, to.y + (first + kStagedRows + row) * kChannels, kStagedRows + row < count);
    if (to.feed != nullptr) {
      if (to.standardized) standardize(z, sum, to.eps);
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int at = row + kStagedRows * i;
        if (at < count) store_row<kSpans>(to.feed + (first + at) * kChannels, z, i);
      }
    }
  }

 private:
  /// z += x for a thread's first row, y also in x's place. Returns the sum of what the thread has of it.
  __device__ __forceinline__ float add_staged(RowSums& z) const {
    float sum = 0.0F;
    const bool odd =
        lane() / 4 % 2 != 0;  // Of rows side by side one takes the halves the other way: no bank conflicts.
#pragma unroll
    for (int span = 0; span < kSpans; ++span) {
      auto* const place =
          reinterpret_cast<float*>(rows + lane() / 4 * kWideRowBytes) + span * kSpan + sums_part() * kVector;
      auto one = load_vector<4>(place + (odd ? 4 : 0)), two = load_vector<4>(place + (odd ? 0 : 4));
      swap_where(odd, one, two);
      sum += add(z, one, span, 0, 0);
      sum += add(z, two, span, 0, 1);
      swap_where(odd, one, two);
      store_vector(place + (odd ? 4 : 0), one);
      store_vector(place + (odd ? 0 : 4), two);
    }
    return sum;
  }

  /// The same for the second row, of which y goes to `to` where it `exists`.
  static __device__ __forceinline__ float add_second(RowSums& z, Second second, float* to, bool exists) {
    float sum = 0.0F;
#pragma unroll
    for (int i = 0; i < kSpans * 2; ++i) {
      auto& piece = second.x[i / 2][i % 2];
      sum += add(z, piece, i / 2, 1, i % 2);
      if (exists) store_piece(to + i / 2 * kSpan + sums_part() * kVector + i % 2 * 4, piece);
    }
    return sum;
  }

  /// z += x for a half of what a thread has of a span, and y instead of x. Returns their sum.
  static __device__ __forceinline__ float add(RowSums& z, Vector<float, 4>& x, int span, int row, int half) {
    float sum = 0.0F;
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      float& value = z.values[4 * (4 * span + 2 * half + c / 2) + 2 * row + c % 2];
      value += x.values[c];
      x.values[c] = value;
      sum += value;
    }
    return sum;
  }

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
