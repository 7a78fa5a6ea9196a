#pragma once

// A chunk of bi_wkv6 as bfloat16 matrices [16 tokens, 64 channels] in shared memory: the factors of tensor cores'
// products.
//
// Decays are multiplied, never subtracted as logarithms. Tokens of different chunks meet through states, with the
// products of the decays up to the chunk's ends, which are within 0 and 1. Two tokens of one chunk are one product of
// rows that are scaled by their way to the middle of the chunk: a product of decays, or one over it. A decay within
// such ways is at least kLeastDecay, so that they stay within float32's range: between two tokens of a chunk that are
// further apart than that, a share of 4.5e-5 of a neighbour's part may pass, a fiftieth of bfloat16's last digit.

#include "ops/cuda/bi_wkv6_chunk.cuh"
#include "ops/cuda/bi_wkv6_fragments.cuh"
#include "ops/cuda/fast_math.cuh"

namespace vrwkv::ops::cuda::wkv6 {

constexpr float kLeastDecay = 4.5399930e-5F;  ///< exp(-10); at most 7 of them lie between a token and the middle.
constexpr int kTile = kChunk * kSide * 2;     ///< Bytes of a matrix [16, 64].

/// Byte of a matrix where the eight channels from 8 * eighth of `row` stand: moved about, so that neither eight rows of
/// one eighth nor two neighbouring eighths of every fourth row share banks. With it, (row + 8) is 1024 further with bit
/// 5 flipped, and another eighth is a flip of bits 4 to 6.
__device__ __forceinline__ int tile_byte(int row, int eighth) {
  return 2 * kSide * row + ((eighth ^ (row & 7) ^ (row >> 3 << 1)) << 4);
}

/// A thread's places in matrices.
struct Spot {
  Lane lane;
  int matrix;  ///< Its row for load_matrices of the first 16 channels.
  int own;     ///< Of (row, channel 16 warp + 2 pair).
  int whole;   ///< Of (row, channel 2 pair).

  __device__ Spot() {
    const int thread = static_cast<int>(threadIdx.x) % 32;
    matrix = tile_byte(thread % 16, thread / 16);
    own = tile_byte(lane.row, 2 * lane.warp) + 4 * lane.pair;
    whole = tile_byte(lane.row, 0) + 4 * lane.pair;
  }

  /// Channels 16 block + 0..15 of a matrix: quarters of a left factor whose columns are channels, and (0 and 2, 1 and
  /// 3) two right factors whose columns are tokens.
  __device__ __forceinline__ void load(Word (&to)[4], const unsigned char* tile, int block) const {
    load_matrices(to, tile + (matrix ^ block << 5));
  }
  /// The same transposed: (0 and 1, 2 and 3) two right factors whose columns are channels.
  __device__ __forceinline__ void load_turned(Word (&to)[4], const unsigned char* tile, int block) const {
    load_transposes(to, tile + (matrix ^ block << 5));
  }
  /// A left factor whose rows are channels 16 block + 0..15.
  __device__ __forceinline__ void load_channel_rows(Word (&to)[4], const unsigned char* tile, int block) const {
    Word turned[4];
    load_turned(turned, tile, block);
    to[0] = turned[0];
    to[1] = turned[2];
    to[2] = turned[1];
    to[3] = turned[3];
  }
  /// Byte of (row + 8 half, channel 16 warp + 8 eight + 2 pair), the place of a product's results.
  __device__ __forceinline__ int result(int half, int eight) const {
    return (own ^ (half << 5) ^ (eight << 4)) + 1024 * half;
  }
};

/// Copies a chunk of a tensor [.., 64 of its channels] into a matrix, 16 bytes for each of kThreads threads.
struct Copied {
  uint4 read;

  __device__ __forceinline__ void load(const at::BFloat16* from, int stride, int count) {
    const int row = static_cast<int>(threadIdx.x) / 8, eighth = static_cast<int>(threadIdx.x) % 8;
    read = row < count ? *reinterpret_cast<const uint4*>(from + row * stride + 8 * eighth) : uint4{0, 0, 0, 0};
  }
  __device__ __forceinline__ void store(unsigned char* tile) const {
    const int row = static_cast<int>(threadIdx.x) / 8, eighth = static_cast<int>(threadIdx.x) % 8;
    *reinterpret_cast<uint4*>(tile + tile_byte(row, eighth)) = read;
  }
};

/// Chunks whose lines are under way to the second cache before they are read.
constexpr int kChunksAhead = 3;

/// Brings a chunk of w and of other tensors into the second cache, a line a thread.
template <int kTensors>
__device__ __forceinline__ void prefetch_chunk(const float* w, const at::BFloat16* const (&others)[kTensors],
                                               int stride, int count) {
  const int thread = static_cast<int>(threadIdx.x), token = thread % kChunk, tensor = thread / kChunk;
  static_assert((2 + kTensors) * kChunk <= kThreads);
  if (token >= count) return;
  if (tensor < 2) prefetch_line(w + token * stride + kSide / 2 * tensor);
#pragma unroll
  for (int i = 0; i < kTensors; ++i) {
    if (tensor == 2 + i) prefetch_line(others[i] + token * stride);
  }
}

/// What a thread prepares of a chunk: tokens 4 group + 0..3 of channels 16 warp + 2 column + 0..1.
struct Stripe {
  int group, column, channel, place;

  __device__ Stripe() {
    const int thread = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
    group = thread / 8;
    column = thread % 8;
    channel = 16 * warp + 2 * column;
    place = tile_byte(4 * group, channel / 8) + 4 * (column % 4);
  }
  /// Byte of token 4 group + i in a matrix.
  __device__ __forceinline__ int byte(int i) const { return (place ^ i << 4) + 2 * kSide * i; }

  __device__ __forceinline__ void load(Word (&words)[4], const at::BFloat16* from, int stride, int count) const {
    from += 4 * group * stride + channel;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      words[i] = 4 * group + i < count ? *reinterpret_cast<const Word*>(from + i * stride) : 0;
    }
  }
  __device__ __forceinline__ void load(float (&w)[4][2], const float* from, int stride, int count) const {
    from += 4 * group * stride + channel;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      Vector<float, 2> read{{-INFINITY, -INFINITY}};
      if (4 * group + i < count) read = load_vector<2>(from + i * stride);
      w[i][0] = read.values[0];
      w[i][1] = read.values[1];
    }
  }

  /// Writes words * factors.
  __device__ __forceinline__ void store(unsigned char* tile, const Word (&words)[4],
                                        const float (&factors)[4][2]) const {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      *reinterpret_cast<Word*>(tile + byte(i)) =
          pack(first_of(words[i]) * factors[i][0], second_of(words[i]) * factors[i][1]);
    }
  }
  __device__ __forceinline__ void store(unsigned char* tile, const Word (&words)[4]) const {
#pragma unroll
    for (int i = 0; i < 4; ++i) *reinterpret_cast<Word*>(tile + byte(i)) = words[i];
  }
};

__device__ __forceinline__ float decay_of(float rate) { return fast_exp(-rate); }

/// Rates exp(w), and the decays exp(-exp(w)): 1 where there is no token.
struct StripeDecays {
  float rate[4][2], decay[4][2];

  __device__ __forceinline__ explicit StripeDecays(const float (&w)[4][2]) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      rate[i / 2][i % 2] = fast_exp(w[i / 2][i % 2]);
      decay[i / 2][i % 2] = decay_of(rate[i / 2][i % 2]);
    }
  }
};

/// Products of the decays before and after each token within the chunk, and of the whole chunk.
struct WaysToEnds {
  float before[4][2], after[4][2], whole[2];

  __device__ __forceinline__ WaysToEnds(const float (&decay)[4][2], const Stripe& stripe) {
    const bool odd = (stripe.group & 1) != 0, later = (stripe.group & 2) != 0;
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      const float first = decay[0][c] * decay[1][c], last = decay[2][c] * decay[3][c], all = first * last;
      const float beside = __shfl_xor_sync(kWholeWarp, all, 8);
      const float half = all * beside, across = __shfl_xor_sync(kWholeWarp, half, 16);
      const float start = (odd ? beside : 1.0F) * (later ? across : 1.0F);
      const float end = (odd ? 1.0F : beside) * (later ? 1.0F : across);
      before[0][c] = start;
      before[1][c] = start * decay[0][c];
      before[2][c] = start * first;
      before[3][c] = before[2][c] * decay[2][c];
      after[3][c] = end;
      after[2][c] = end * decay[3][c];
      after[1][c] = end * last;
      after[0][c] = after[1][c] * decay[1][c];
      whole[c] = half * across;
    }
  }

  __device__ __forceinline__ void store_whole(float* wholes, const Stripe& stripe) const {
    if (stripe.group == 0) store_vector(wholes + stripe.channel, Vector<float, 2>{whole[0], whole[1]});
  }
};

/// Ways between a token and the chunk's middle, which is before token 8: `from` for what follows the middle's side of
/// the token, `to` with the token itself. An earlier token s and a later one t have to[s] * from[t] between them, and
/// so have a later s and an earlier t with from[s] * to[t].
struct WaysToMiddle {
  float from[4][2], to[4][2];

  __device__ __forceinline__ WaysToMiddle(const float (&decay)[4][2], const Stripe& stripe) {
    const bool later = stripe.group >= 2, inner = stripe.group == 1 || stripe.group == 2;
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      float way[4], close[4], far[4];  // Outwards from the middle.
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        way[i] = fmaxf(later ? decay[i][c] : decay[3 - i][c], kLeastDecay);
        // The chunk's first and last token lie between no two others.
        if (i == 3 && !inner) way[i] = 1.0F;
      }
      const float inside = __shfl_xor_sync(kWholeWarp, way[0] * way[1] * (way[2] * way[3]), 8);
      float product = inner ? 1.0F : inside;
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        close[i] = product;
        product *= way[i];
        far[i] = fast_reciprocal(product);
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        from[i][c] = later ? close[i] : far[3 - i];
        to[i][c] = later ? far[i] : close[3 - i];
      }
    }
  }
};

/// Writes each warp's part of what tokens have as scores of themselves, r diag(u) k^T, as [warps, 16 tokens].
__device__ __forceinline__ void store_self_scores(float* parts, const Word (&r)[4], const Word (&k)[4],
                                                  const float (&bonus)[2], const Stripe& stripe) {
  float sums[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    sums[i] = first_of(r[i]) * bonus[0] * first_of(k[i]) + second_of(r[i]) * bonus[1] * second_of(k[i]);
  }
  // Lanes of a group share their tokens' sums out among each other while they add them up.
  const bool upper = (stripe.column & 4) != 0, second = (stripe.column & 2) != 0;
  float two[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    two[i] = upper ? sums[2 + i] : sums[i];
    two[i] += __shfl_xor_sync(kWholeWarp, upper ? sums[i] : sums[2 + i], 4);
  }
  float one = second ? two[1] : two[0];
  one += __shfl_xor_sync(kWholeWarp, second ? two[0] : two[1], 2);
  one += __shfl_xor_sync(kWholeWarp, one, 1);
  const int token = 4 * stripe.group + stripe.column / 2;
  if (stripe.column % 2 == 0) parts[stripe.channel / 16 * kChunk + token] = one;
}

/// Scores [16, 16] of a chunk in shared memory, as a left factor.
struct ScoreTile {
  static constexpr int kStride = 48;  ///< Bytes of a row.
  static constexpr int kBytes = kChunk * kStride;
  unsigned char* place;

  /// One warp's share: the half of the tokens `columns` that warp / 2 says, as columns; of these, with the ways of
  /// pairs whose row is later (warp % 2 = 0) or earlier, those pairs. `self` as store_self_scores leaves it.
  __device__ __forceinline__ void add(const unsigned char* rows, const unsigned char* columns, const float* self,
                                      const Spot& spot) const {
    const int thread = static_cast<int>(threadIdx.x) % 32, half = spot.lane.warp / 2;
    float sums[4] = {};
#pragma unroll
    for (int block = 0; block < 4; block += 2) {
      Word right[4], left[4];
      load_matrices(right, columns + tile_byte(8 * half + thread % 8, 2 * block + thread / 8));
      spot.load(left, rows, block);
      add_product(sums, left, right[0], right[1]);
      spot.load(left, rows, block + 1);
      add_product(sums, left, right[2], right[3]);
    }
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      const int row = spot.lane.row + 8 * (c / 2), column = 8 * half + 2 * spot.lane.pair + c % 2;
      if (spot.lane.warp % 2 == 0 ? row > column : row < column) write(row, column, sums[c]);
    }
    if (threadIdx.x < kChunk) {
      const int token = static_cast<int>(threadIdx.x);
      write(token, token, self[token] + self[kChunk + token] + self[2 * kChunk + token] + self[3 * kChunk + token]);
    }
  }

  __device__ __forceinline__ void load(Word (&to)[4]) const {
    const int thread = static_cast<int>(threadIdx.x) % 32;
    load_matrices(to, place + thread % 16 * kStride + thread / 16 * 16);
  }

 private:
  __device__ __forceinline__ void write(int row, int column, float score) const {
    *reinterpret_cast<at::BFloat16*>(place + row * kStride + 2 * column) = static_cast<at::BFloat16>(score);
  }
};

}  // namespace vrwkv::ops::cuda::wkv6
