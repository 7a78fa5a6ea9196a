#pragma once

// A chunk of tokens of one head of bi_wkv6, spread over a block of four warps, and the products of its decays.
//
// No decay is ever divided by, and no logarithm of decays subtracted: any size of w gives full precision. A token t and
// another one s of the same chunk, whose places differ in bit `level` first, lie in neighbouring halves of a run of
// 2 * level tokens; the decays between them are those between t and the middle, times those between the middle and s.
// So the products of all such pairs are one matrix product of rows scaled by their own way to the middle, for both
// directions of time at once. Pairs of different chunks meet through states, with the way to the chunk's ends.

#include <cstdint>
#include <type_traits>

#include "ops/bi_wkv6_head.h"
#include "ops/cuda/bi_wkv6_mma.cuh"
#include "ops/cuda/vector.cuh"

namespace vrwkv::ops::cuda::wkv6 {

constexpr int kSide = static_cast<int>(kBiWkv6HeadSize);
constexpr int kChunk = 16;  ///< Tokens of a chunk.
constexpr int kWarps = 4;   ///< Each has 16 of the head's channels where these are rows of states.
constexpr int kThreads = 32 * kWarps;
constexpr int kStateSize = kSide * kSide;

/// How a call's tokens are divided: `segments` of `segment` tokens (whole chunks, but for the last) for every head of
/// every batch element, each an item.
struct Shape {
  int64_t batch, tokens;
  int heads, segment, segments;

  __host__ __device__ int64_t items() const { return batch * heads * segments; }
};

/// One item: its place in tensors [B, T, heads * 64].
struct Item {
  int64_t index, first, stride;  ///< Offset of its first token, and from one token to the next.
  int head, tokens;

  __device__ Item(const Shape& shape, int64_t item) : index(item), stride(static_cast<int64_t>(shape.heads) * kSide) {
    const int64_t sequence = item / shape.segments;
    const int64_t start = item % shape.segments * shape.segment;
    head = static_cast<int>(sequence % shape.heads);
    tokens = static_cast<int>(shape.tokens - start < shape.segment ? shape.tokens - start : shape.segment);
    first = (sequence / shape.heads * shape.tokens + start) * stride + head * kSide;
  }

  __device__ int chunks() const { return (tokens + kChunk - 1) / kChunk; }
  /// Offset of a chunk's first token, and how many tokens it has.
  __device__ int64_t at(int chunk) const { return first + chunk * kChunk * stride; }
  __device__ int count(int chunk) const { return tokens - chunk * kChunk < kChunk ? tokens - chunk * kChunk : kChunk; }
};

/// Tokens row, row + 8 and channels 16 warp + 4 pair + 0..3: what a thread has of [16 tokens, 64 channels].
template <typename T>
using Rows = T[2][4];

template <typename T, typename In>
__device__ __forceinline__ void load_rows(Rows<T>& rows, const In* from, int64_t stride, int count, const Lane& lane,
                                          T missing = T(0)) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int token = lane.row + 8 * half;
    Vector<In, 4> read{};
    if (token < count) read = load_vector<4>(from + token * stride + 16 * lane.warp + 4 * lane.pair);
#pragma unroll
    for (int x = 0; x < 4; ++x) rows[half][x] = token < count ? static_cast<T>(read.values[x]) : missing;
  }
}

/// Tokens 8 k + 2 pair + e and channels 8 row + 0..7, as [k][e][channel]: what a thread has of a factor whose sums run
/// over tokens. Every warp has all.
template <typename T>
using Columns = T[2][2][8];

template <typename T, typename In>
__device__ __forceinline__ void load_columns(Columns<T>& columns, const In* from, int64_t stride, int count,
                                             const Lane& lane) {
#pragma unroll
  for (int k = 0; k < 2; ++k) {
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const int token = 8 * k + 2 * lane.pair + e;
      Vector<In, 8> read{};
      if (token < count) read = load_vector<8>(from + token * stride + 8 * lane.row);
#pragma unroll
      for (int x = 0; x < 8; ++x) columns[k][e][x] = static_cast<T>(read.values[x]);
    }
  }
}

/// A factor [16 tokens, 8 channels] of Rows: the k-th eight of a warp's channels.
template <typename T>
struct Left {
  T values[4];
};
template <typename T>
__device__ __forceinline__ Left<T> left_of(const Rows<T>& rows, int k) {
  return {{rows[0][2 * k], rows[1][2 * k], rows[0][2 * k + 1], rows[1][2 * k + 1]}};
}

/// Scores of [16 tokens, 16 tokens]: [m][c] is that of token row + 8 (c / 2) and token 8 m + 2 pair + c % 2.
template <typename T>
using Scores = T[2][4];

__device__ __forceinline__ int score_row(const Lane& lane, int c) { return lane.row + 8 * (c / 2); }
__device__ __forceinline__ int score_column(const Lane& lane, int m, int c) { return 8 * m + 2 * lane.pair + c % 2; }

/// A factor [16 tokens, 8 tokens] of Scores.
template <typename T>
__device__ __forceinline__ Left<T> left_of_scores(const Scores<T>& scores, int k) {
  return {{scores[k][0], scores[k][2], scores[k][1], scores[k][3]}};
}

/// scores += a b^T over the warp's channels.
template <typename M, typename T>
__device__ __forceinline__ void add_scores(Scores<T>& scores, const Rows<T>& a, const Rows<T>& b) {
#pragma unroll
  for (int k = 0; k < 2; ++k) {
    const Left<T> factor = left_of(a, k);
#pragma unroll
    for (int m = 0; m < 2; ++m) {
      const T right[2]{b[m][2 * k], b[m][2 * k + 1]};
      M::add(scores[m], factor.values, right);
    }
  }
}

/// scores = found for the pairs of `kLevel`.
template <int kLevel, typename T>
__device__ __forceinline__ void keep_level(Scores<T>& scores, const Scores<T>& found, const Lane& lane) {
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const int differing = score_row(lane, i % 4) ^ score_column(lane, i / 4, i % 4);
    if (differing >= kLevel && differing < 2 * kLevel) scores[i / 4][i % 4] = found[i / 4][i % 4];
  }
}

/// What tokens row and row + 8 have as scores of themselves, over the warp's channels: r diag(u) k^T.
template <typename T>
struct SelfScores {
  T of[2];
};
template <typename T>
__device__ __forceinline__ SelfScores<T> self_scores(const Rows<T>& r, const Rows<T>& k, const T (&bonus)[4]) {
  SelfScores<T> self{};
#pragma unroll
  for (int half = 0; half < 2; ++half) {
#pragma unroll
    for (int x = 0; x < 4; ++x) self.of[half] += r[half][x] * bonus[x] * k[half][x];
    self.of[half] += __shfl_xor_sync(kWholeWarp, self.of[half], 1);
    self.of[half] += __shfl_xor_sync(kWholeWarp, self.of[half], 2);
  }
  return self;
}
template <typename T>
__device__ __forceinline__ void set_diagonal(Scores<T>& scores, const SelfScores<T>& self, const Lane& lane) {
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    if (score_row(lane, i % 4) == score_column(lane, i / 4, i % 4)) scores[i / 4][i % 4] = self.of[i % 4 / 2];
  }
}

/// parts += scores columns, as WarpSums takes them.
template <typename M, typename T>
__device__ __forceinline__ void add_weighted(T (&parts)[8][4], const Scores<T>& scores, const Columns<T>& columns) {
#pragma unroll
  for (int k = 0; k < 2; ++k) {
    const Left<T> left = left_of_scores(scores, k);
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const T right[2]{columns[k][0][j], columns[k][1][j]};
      M::add(parts[j], left.values, right);
    }
  }
}

/// For tokens row and row + 8: the products of the decays before each within its run of tokens, of those after it, and
/// of the whole run, which grows from one token to the chunk.
template <typename T>
struct Decays {
  Rows<T> before, after, whole;

  __device__ explicit Decays(const Rows<T>& decay) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      before[i / 4][i % 4] = after[i / 4][i % 4] = T(1);
      whole[i / 4][i % 4] = decay[i / 4][i % 4];
    }
  }

  /// Runs of kRun tokens become runs of twice as many.
  template <int kRun>
  __device__ __forceinline__ void widen(const Lane& lane) {
    const bool later = (lane.row & kRun) != 0;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      T& run = whole[i / 4][i % 4];
      const T other = __shfl_xor_sync(kWholeWarp, run, 4 * kRun);
      before[i / 4][i % 4] *= later ? other : T(1);
      after[i / 4][i % 4] *= later ? T(1) : other;
      run *= other;
    }
  }

  /// Calls body(level, way) for the levels 1, 2, 4 and 8, where way is the product of the decays between a token and
  /// the middle of its run of 2 * level. Then before and after reach to the chunk's ends, and whole[0] is the chunk's.
  template <typename Body>
  __device__ __forceinline__ void for_each_level(const Lane& lane, const Body& body) {
    call<1>(lane, body);
    widen<1>(lane);
    call<2>(lane, body);
    widen<2>(lane);
    call<4>(lane, body);
    widen<4>(lane);
    call<8>(lane, body);
#pragma unroll
    for (int x = 0; x < 4; ++x) {
      after[0][x] *= whole[1][x];
      before[1][x] *= whole[0][x];
      whole[0][x] = whole[1][x] = whole[0][x] * whole[1][x];
    }
  }

  __device__ __forceinline__ void reach_ends(const Lane& lane) {
    for_each_level(lane, [](auto, const Rows<T>&) {});
  }

 private:
  template <int kLevel, typename Body>
  __device__ __forceinline__ void call(const Lane& lane, const Body& body) const {
    Rows<T> way;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const bool later = kLevel == 8 ? half == 1 : (lane.row & kLevel) != 0;
#pragma unroll
      for (int x = 0; x < 4; ++x) way[half][x] = later ? before[half][x] : after[half][x];
    }
    body(std::integral_constant<int, kLevel>(), way);
  }
};

/// exp(w), and the decay exp(-exp(w)): 1 where there is no token.
template <typename T>
__device__ __forceinline__ void load_decays(Rows<T>& rate, Rows<T>& decay, const T* w, int64_t stride, int count,
                                            const Lane& lane) {
  load_rows<T>(rate, w, stride, count, lane, -INFINITY);
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    rate[i / 4][i % 4] = exp(rate[i / 4][i % 4]);
    decay[i / 4][i % 4] = exp(-rate[i / 4][i % 4]);
  }
}

template <typename T>
__device__ __forceinline__ void multiply(Rows<T>& product, const Rows<T>& a, const Rows<T>& b) {
#pragma unroll
  for (int i = 0; i < 8; ++i) product[i / 4][i % 4] = a[i / 4][i % 4] * b[i / 4][i % 4];
}

/// A warp's place in shared memory to turn [16, 16] matrices around; its rows are padded.
template <typename T>
struct Turned {
  static constexpr int kStride = 20;
  static constexpr int kSize = kChunk * kStride;
  T* place;

  /// Rows of one warp as [k][e][n]: token 8 k + 2 pair + e, and the channel of column `row` of the n-th eight, which
  /// is where left_of puts it.
  __device__ __forceinline__ void rows(T (&turned)[2][2][2], const Rows<T>& from, const Lane& lane) const {
    __syncwarp();
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
      for (int x = 0; x < 4; ++x) place[(lane.row + 8 * half) * kStride + 4 * lane.pair + x] = from[half][x];
    }
    __syncwarp();
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const int token = 8 * (i / 4) + 2 * lane.pair + i / 2 % 2;
      turned[i / 4][i / 2 % 2][i % 2] = place[token * kStride + 4 * (lane.row / 2) + 2 * (i % 2) + lane.row % 2];
    }
  }

  __device__ __forceinline__ void scores(Scores<T>& turned, const Scores<T>& from, const Lane& lane) const {
    __syncwarp();
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      place[score_row(lane, i % 4) * kStride + score_column(lane, i / 4, i % 4)] = from[i / 4][i % 4];
    }
    __syncwarp();
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      turned[i / 4][i % 4] = place[score_column(lane, i / 4, i % 4) * kStride + score_row(lane, i % 4)];
    }
  }
};

/// Sums a block's results [16 tokens, 64 channels] over its warps: `parts` as a matrix product with Columns on its
/// right leaves them, [channel % 8][c] for token row + 8 (c / 2) and channels 8 (2 pair + c % 2) + 0..7. The thread's
/// share of the sums is token() and the eight channels from channel().
template <typename T>
struct WarpSums {
  static constexpr int kSize = kWarps * kChunk * kSide;

  static __device__ int token(const Lane& lane) { return lane.row + 8 * (lane.warp / 2); }
  static __device__ int channel(const Lane& lane) { return 16 * lane.pair + 8 * (lane.warp % 2); }

  static __device__ __forceinline__ void add_up(T (&sums)[8], const T (&parts)[8][4], T* shared, const Lane& lane) {
    const int thread = static_cast<int>(threadIdx.x) % 32;
    __syncthreads();
#pragma unroll
    for (int c = 0; c < 4; ++c) {
#pragma unroll
      for (int g = 0; g < 2; ++g) {
        store_vector(shared + ((lane.warp * 8 + 2 * c + g) * 32 + thread) * 4,
                     Vector<T, 4>{parts[4 * g][c], parts[4 * g + 1][c], parts[4 * g + 2][c], parts[4 * g + 3][c]});
      }
    }
    __syncthreads();
#pragma unroll
    for (int x = 0; x < 8; ++x) sums[x] = T(0);
#pragma unroll
    for (int warp = 0; warp < kWarps; ++warp) {
#pragma unroll
      for (int g = 0; g < 2; ++g) {
        const auto part = load_vector<4>(shared + ((warp * 8 + 2 * lane.warp + g) * 32 + thread) * 4);
#pragma unroll
        for (int x = 0; x < 4; ++x) sums[4 * g + x] += part.values[x];
      }
    }
  }
};

/// Writes the thread's share of such sums.
template <typename In, typename T>
__device__ __forceinline__ void store_sums(In* to, const T (&sums)[8], int64_t stride, int count, const Lane& lane) {
  const int token = WarpSums<T>::token(lane);
  if (token >= count) return;
  Vector<In, 8> out;
#pragma unroll
  for (int x = 0; x < 8; ++x) out.values[x] = static_cast<In>(sums[x]);
  store_vector(to + token * stride + WarpSums<T>::channel(lane), out);
}

}  // namespace vrwkv::ops::cuda::wkv6
