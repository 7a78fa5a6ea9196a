#pragma once

#include "ops/cuda/hopper/shifted_rows.cuh"

namespace vrwkv::ops::cuda::hopper {

using RowSums = Sums<kChannels>;

/// The residual sum y = x + z and what the next branch reads of it.
struct Residual {
  const float* x;       ///< [count, C]
  float* y;             ///< [count, C]; null: nobody wants it, x is read again.
  __nv_bfloat16* feed;  ///< [count, C]; null: none.
  bool standardized;    ///< The feed: y standardised over the channels, or y itself.
  float eps;
  int64_t count;
  float* rstd = nullptr;  ///< [count] or null: what a standardized feed was multiplied by.
};

constexpr int kWarpRows = 16;
constexpr int kWideRowBytes = kChannels * 4;

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

/// A warp's 16 rows of a warpgroup's 64, two a thread. The first `staged` pass through shared memory: x, then y in its
/// place, which one copy each brings and takes away while products run. That is all of them, or a thread's first one:
/// then x of the second one comes in registers, once the products have left some, for other things have the memory.
template <int staged>
struct WarpRows {
  static_assert(staged == kWarpRows || staged == kWarpRows / 2);
  static constexpr int kBytes = staged * kWideRowBytes;

  unsigned char* rows;
  Barrier& there;

  /// x of a thread's second row.
  struct Second {
    Vector<float, 4> x[kSpans][2];

    /// The loads are under way when this returns.
    __device__ __forceinline__ Second(const Residual& from, int64_t first) {
      const int64_t row = first + row_of(1);
      const float* const at = from.x + (row < from.count ? row : 0) * kChannels + sums_part() * kVector;
#pragma unroll
      for (int i = 0; i < kSpans * 2; ++i) x[i / 2][i % 2] = load_vector<4>(at + i / 2 * kSpan + i % 2 * 4);
    }
  };

  static __device__ __forceinline__ int lane() { return static_cast<int>(threadIdx.x) % 32; }
  /// A thread's rows, 0 and 1.
  static __device__ __forceinline__ int row_of(int i) { return lane() / 4 + kWarpRows / 2 * i; }

  /// Starts to fetch x from row `first` on, when the last y has been taken away. `last`: nobody reads x after this.
  template <bool last = true>
  __device__ __forceinline__ void fetch(const Residual& from, int64_t first) const {
    if (lane() != 0) return;
    const int bytes = min(existing(from, first), staged) * kWideRowBytes;
    wait_stores_read();
    there.expect(bytes);
    if (bytes == 0) return;
    if constexpr (last) {
      copy_bulk_last(rows, from.x + first * kChannels, bytes, there);
    } else {
      copy_bulk(rows, from.x + first * kChannels, bytes, there);
    }
  }

  /// Stores x + z, where it is wanted, and its feed; x as it was fetched in a phase of this parity.
  template <bool wanted = true>
  __device__ __forceinline__ void finish(RowSums& z, const Residual& to, int64_t first, int parity) const {
    static_assert(staged == kWarpRows);
    there.wait(parity);
    const float sum[]{add_staged<wanted>(z, 0), add_staged<wanted>(z, 1)};
    if constexpr (wanted) {
      store_staged(to, first);
    } else {
      __syncwarp();  // x is read.
    }
    store_feed(z, sum, to, first);
  }

  /// The same with `second` of the rows that are not staged.
  __device__ __forceinline__ void finish(RowSums& z, const Second& second, const Residual& to, int64_t first,
                                         int parity) const {
    static_assert(staged < kWarpRows);
    float sum[2];
    there.wait(parity);
    sum[0] = add_staged<true>(z, 0);
    store_staged(to, first);
    sum[1] = add_second(z, second, to.y + (first + row_of(1)) * kChannels, row_of(1) < existing(to, first));
    store_feed(z, sum, to, first);
  }

 private:
  __device__ __forceinline__ void store_staged(const Residual& to, int64_t first) const {
    const int count = existing(to, first);
    publish_writes();
    __syncwarp();
    if (lane() == 0 && count > 0) store_bulk(to.y + first * kChannels, rows, min(count, staged) * kWideRowBytes);
    if (lane() == 0) end_stores();
  }

  static __device__ __forceinline__ void store_feed(RowSums& z, const float (&sum)[2], const Residual& to,
                                                    int64_t first) {
    if (to.feed == nullptr) return;
    const int count = existing(to, first);
    float rstd[2];
    if (to.standardized) standardize(z, sum, to.eps, rstd);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if (row_of(i) >= count) continue;
      store_row(to.feed + (first + row_of(i)) * kChannels, z, i);
      if (to.rstd != nullptr && sums_part() == 0) to.rstd[first + row_of(i)] = rstd[i];
    }
  }

  /// z += x for a thread's row `i`, y also in x's place where it is wanted. Returns the sum of what the thread has of
  /// it.
  template <bool wanted>
  __device__ __forceinline__ float add_staged(RowSums& z, int i) const {
    float sum = 0.0F;
    const bool odd =
        lane() / 4 % 2 != 0;  // Of rows side by side one takes the halves the other way: no bank conflicts.
#pragma unroll
    for (int span = 0; span < kSpans; ++span) {
      auto* const place =
          reinterpret_cast<float*>(rows + row_of(i) * kWideRowBytes) + span * kSpan + sums_part() * kVector;
      auto one = load_vector<4>(place + (odd ? 4 : 0)), two = load_vector<4>(place + (odd ? 0 : 4));
      swap_where(odd, one, two);
      sum += add(z, one, span, i, 0);
      sum += add(z, two, span, i, 1);
      if constexpr (!wanted) continue;
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
