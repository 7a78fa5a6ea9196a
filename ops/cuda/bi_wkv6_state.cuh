#pragma once

// States [64 keys, 64 values] of bi_wkv6 in the registers of a block: each warp has 16 keys and all values.

#include "ops/cuda/bi_wkv6_chunk.cuh"

namespace vrwkv::ops::cuda::wkv6 {

/// A state whose columns are keys: the left factor of what tokens read is Rows.
template <typename T, typename M>
struct KeyColumns {
  T values[4][2][4];  ///< [value / 2 % 4][key eight][c]: value 8 row + 2 m + c / 2, key 16 warp + 4 pair + 2 n + c % 2.

  static __device__ int value(const Lane& lane, int m, int c) { return 8 * lane.row + 2 * m + c / 2; }
  static __device__ int key(const Lane& lane, int n, int c) { return 16 * lane.warp + 4 * lane.pair + 2 * n + c % 2; }

  /// From or to a matrix [64 keys, 64 values]; zeros without one.
  __device__ void load(const T* from, const Lane& lane) {
    each([&](T& x, int m, int n, int c) {
      x = from == nullptr ? T(0) : from[key(lane, n, c) * kSide + value(lane, m, c)];
    });
  }
  __device__ void store(T* to, const Lane& lane) {
    each([&](T& x, int m, int n, int c) { to[key(lane, n, c) * kSide + value(lane, m, c)] = x; });
  }

  /// sums += keys state over the warp's keys.
  __device__ __forceinline__ void read(T (&sums)[8][4], const Rows<T>& keys) const {
#pragma unroll
    for (int n = 0; n < 2; ++n) {
      const Left<T> left = left_of(keys, n);
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        const T right[2]{values[j / 2][n][2 * (j % 2)], values[j / 2][n][2 * (j % 2) + 1]};
        M::add(sums[j], left.values, right);
      }
    }
  }

  /// state = diag(decay) state + keys^T columns, with `turned` keys.
  __device__ __forceinline__ void advance(const T (&decay)[4], const T (&turned)[2][2][2], const Columns<T>& columns) {
    each([&](T& x, int, int n, int c) { x *= decay[2 * n + c % 2]; });
#pragma unroll
    for (int k = 0; k < 2; ++k) {
#pragma unroll
      for (int m = 0; m < 4; ++m) {
        const T left[4]{columns[k][0][2 * m], columns[k][0][2 * m + 1], columns[k][1][2 * m], columns[k][1][2 * m + 1]};
#pragma unroll
        for (int n = 0; n < 2; ++n) {
          const T right[2]{turned[k][0][n], turned[k][1][n]};
          M::add(values[m][n], left, right);
        }
      }
    }
  }

 private:
  template <typename Body>
  __device__ __forceinline__ void each(const Body& body) {
#pragma unroll
    for (int i = 0; i < 32; ++i) body(values[i / 8][i / 4 % 2][i % 4], i / 8, i / 4 % 2, i % 4);
  }
};

/// A state whose rows are keys: the left factor of what keys gather from it is a token's values.
template <typename T, typename M>
struct KeyRows {
  T values[8]
          [4];  ///< [value % 8][c]: value 16 pair + 8 (c % 2) + j, key 4 (row / 2) + 2 (c / 2) + row % 2 of the warp.

  __device__ void load(const T* from, const Lane& lane) {
#pragma unroll
    for (int i = 0; i < 32; ++i) {
      const int j = i / 4, c = i % 4;
      const int key = 16 * lane.warp + 4 * (lane.row / 2) + 2 * (c / 2) + lane.row % 2;
      values[j][c] = from == nullptr ? T(0) : from[key * kSide + 16 * lane.pair + 8 * (c % 2) + j];
    }
  }

  /// As the thread has it, in a place of its own: 8 vectors, a block's threads side by side.
  __device__ __forceinline__ void keep(T* place) const {
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      store_vector(place + (j * kThreads + threadIdx.x) * 4,
                   Vector<T, 4>{values[j][0], values[j][1], values[j][2], values[j][3]});
    }
  }
  __device__ __forceinline__ void restore(const T* place) {
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const auto read = load_vector<4>(place + (j * kThreads + threadIdx.x) * 4);
#pragma unroll
      for (int c = 0; c < 4; ++c) values[j][c] = read.values[c];
    }
  }

  /// sums += keys state over the warp's keys, which pass through the warp's `place` in shared memory: it has room for
  /// kKeySize numbers.
  static constexpr int kKeyStride = kSide + 4;
  static constexpr int kKeySize = 16 * kKeyStride;
  __device__ __forceinline__ void read(T (&sums)[8][4], const Rows<T>& keys, T* place, const Lane& lane) const {
    __syncwarp();
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const int c = i / 2, j = 4 * (i % 2);
      const int key = 4 * (lane.row / 2) + 2 * (c / 2) + lane.row % 2;
      store_vector(place + key * kKeyStride + 16 * lane.pair + 8 * (c % 2) + j,
                   Vector<T, 4>{values[j][c], values[j + 1][c], values[j + 2][c], values[j + 3][c]});
    }
    __syncwarp();
#pragma unroll
    for (int n = 0; n < 2; ++n) {
      const Left<T> left = left_of(keys, n);
      const T* const from = place + (4 * lane.pair + 2 * n) * kKeyStride + 8 * lane.row;
#pragma unroll
      for (int g = 0; g < 2; ++g) {
        const auto even = load_vector<4>(from + 4 * g), odd = load_vector<4>(from + kKeyStride + 4 * g);
#pragma unroll
        for (int x = 0; x < 4; ++x) {
          const T right[2]{even.values[x], odd.values[x]};
          M::add(sums[4 * g + x], left.values, right);
        }
      }
    }
  }

  /// state = diag(decay) state + keys^T columns.
  __device__ __forceinline__ void advance(const T (&decay)[4], const T (&turned)[2][2][2], const Columns<T>& columns,
                                          const Lane& lane) {
    T scale[2];
#pragma unroll
    for (int n = 0; n < 2; ++n) {  // The decays of the keys in the thread's rows, which threads of the same row have.
      const T even = __shfl_sync(kWholeWarp, decay[2 * n], 4 * lane.row + lane.row / 2);
      const T odd = __shfl_sync(kWholeWarp, decay[2 * n + 1], 4 * lane.row + lane.row / 2);
      scale[n] = lane.row % 2 == 0 ? even : odd;
    }
#pragma unroll
    for (int i = 0; i < 32; ++i) values[i / 4][i % 4] *= scale[i % 4 / 2];
#pragma unroll
    for (int k = 0; k < 2; ++k) {
      const T left[4]{turned[k][0][0], turned[k][0][1], turned[k][1][0], turned[k][1][1]};
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        const T right[2]{columns[k][0][j], columns[k][1][j]};
        M::add(values[j], left, right);
      }
    }
  }

  /// gathered = tokens state^T, with all values of tokens row and row + 8: [half][value - 16 pair].
  __device__ __forceinline__ void gather(Rows<T>& gathered, const T (&tokens)[2][16]) const {
    T sums[2][4] = {};
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const T left[4]{tokens[0][j], tokens[1][j], tokens[0][8 + j], tokens[1][8 + j]};
#pragma unroll
      for (int n = 0; n < 2; ++n) {
        const T right[2]{values[j][2 * n], values[j][2 * n + 1]};
        M::add(sums[n], left, right);
      }
    }
#pragma unroll
    for (int i = 0; i < 8; ++i) gathered[i / 4][i % 4] = sums[i % 4 / 2][2 * (i / 4) + i % 2];
  }

  /// For the thread's keys 4 pair + x of its warp: the sum over values of this state times another one.
  __device__ __forceinline__ void dot(T (&sums)[4], const KeyRows& other, const Lane& lane) const {
    T part[2] = {};
#pragma unroll
    for (int i = 0; i < 32; ++i) part[i % 4 / 2] += values[i / 4][i % 4] * other.values[i / 4][i % 4];
#pragma unroll
    for (int n = 0; n < 2; ++n) {
      part[n] += __shfl_xor_sync(kWholeWarp, part[n], 1);
      part[n] += __shfl_xor_sync(kWholeWarp, part[n], 2);
    }
#pragma unroll
    for (int x = 0; x < 4; ++x) sums[x] = __shfl_sync(kWholeWarp, part[x / 2], 4 * (2 * lane.pair + x % 2));
  }
};

}  // namespace vrwkv::ops::cuda::wkv6
