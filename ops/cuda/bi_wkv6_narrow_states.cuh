#pragma once

// States of bi_wkv6 [64 keys, 64 values] in float32 that take and give bfloat16 factors; and those at the ends of
// segments.

#include "ops/cuda/bi_wkv6_kernels.cuh"
#include "ops/cuda/bi_wkv6_tiles.cuh"

namespace vrwkv::ops::cuda::wkv6 {

/// A block's state, 16 of its rows in each warp: keys and columns of values, or the transpose of that. In the registers
/// of products' results: [column / 8][c] is row + 8 (c / 2) of the warp's and column 2 pair + c % 2 of the eight.
struct RowState {
  float at[8][4];

  /// From or to a matrix [64 keys, 64 values]; zeros without one.
  template <bool kRowsAreKeys>
  __device__ void load(const float* from, const Spot& spot) {
#pragma unroll
    for (int i = 0; i < 32; ++i) {
      at[i / 4][i % 4] = from == nullptr ? 0.0F : from[index<kRowsAreKeys>(i, spot)];
    }
  }
  template <bool kRowsAreKeys>
  __device__ void store(float* to, const Spot& spot) const {
#pragma unroll
    for (int i = 0; i < 32; ++i) to[index<kRowsAreKeys>(i, spot)] = at[i / 4][i % 4];
  }

  /// Columns 16 block + 0..15 in bfloat16: (0 and 1, 2 and 3) two right factors whose columns are the state's rows 0..7
  /// and 8..15 of the warp's.
  __device__ __forceinline__ void narrow(Word (&words)[4], int block) const {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float(&from)[4] = at[2 * block + i % 2];
      words[i] = pack(from[i / 2 * 2], from[i / 2 * 2 + 1]);
    }
  }

  /// state += rows^T columns over the chunk's tokens, with two matrices [16 tokens, 64].
  __device__ __forceinline__ void add(const unsigned char* rows, const unsigned char* columns, const Spot& spot) {
    Word left[4];
    spot.load_channel_rows(left, rows, spot.lane.warp);
    add(left, columns, spot);
  }
  __device__ __forceinline__ void add(const Word (&left)[4], const unsigned char* columns, const Spot& spot) {
#pragma unroll
    for (int block = 0; block < 4; ++block) {
      Word right[4];
      spot.load_turned(right, columns, block);
      add_product(at[2 * block], left, right[0], right[1]);
      add_product(at[2 * block + 1], left, right[2], right[3]);
    }
  }

  /// Multiplies every row, or every column, by its number of `factors` [64].
  __device__ __forceinline__ void scale_rows(const float* factors, const Spot& spot) {
    const int row = 16 * spot.lane.warp + spot.lane.row;
    const float upper = factors[row], lower = factors[row + 8];
#pragma unroll
    for (int i = 0; i < 32; ++i) at[i / 4][i % 4] *= i % 4 < 2 ? upper : lower;
  }
  __device__ __forceinline__ void scale_columns(const float* factors, const Spot& spot) {
#pragma unroll
    for (int n = 0; n < 8; ++n) {
      const auto factor = load_vector<2>(factors + 8 * n + 2 * spot.lane.pair);
#pragma unroll
      for (int c = 0; c < 4; ++c) at[n][c] *= factor.values[c % 2];
    }
  }

 private:
  template <bool kRowsAreKeys>
  static __device__ int index(int i, const Spot& spot) {
    const int row = 16 * spot.lane.warp + spot.lane.row + 8 * (i % 4 / 2),
              column = i / 4 * 8 + 2 * spot.lane.pair + i % 2;
    return kRowsAreKeys ? row * kSide + column : column * kSide + row;
  }
};

/// Factors of a kind of states: keys and values, or receptances and output gradients.
struct NarrowPair {
  const at::BFloat16 *rows, *columns;
};

/// What segment_states_kernel does, in one walk for both directions, for as many kinds as blockIdx.y has.
__global__ void __launch_bounds__(kThreads)
    narrow_segment_states_kernel(Shape shape, NarrowPair first, NarrowPair second, const float* w, float* first_states,
                                 float* second_states, float* decays) {
#if __CUDA_ARCH__ >= 800
  __shared__ __align__(128) unsigned char tiles[3 * kTile];
  __shared__ float wholes[kSide];
  unsigned char *const after = tiles, *const before = tiles + kTile, *const columns = tiles + 2 * kTile;
  const Spot spot;
  const Stripe stripe;
  const Item item(shape, blockIdx.x);
  const bool is_first = blockIdx.y == 0;
  const at::BFloat16 *const rows_in = is_first ? first.rows : second.rows, *const columns_in = is_first
                                                                                                   ? first.columns
                                                                                                   : second.columns;
  const int stride = static_cast<int>(item.stride), chunks = item.chunks();
  RowState forward, backward;
  forward.load<true>(nullptr, spot);
  backward.load<true>(nullptr, spot);
  float passed[2] = {1.0F, 1.0F}, next_w[4][2];
  Word next_rows[4];
  Copied next_columns;
  const auto read = [&](int chunk) {
    const int64_t at = item.at(chunk);
    stripe.load(next_w, w + at, stride, item.count(chunk));
    stripe.load(next_rows, rows_in + at, stride, item.count(chunk));
    next_columns.load(columns_in + at, stride, item.count(chunk));
  };
  read(0);
  for (int chunk = 0; chunk < chunks; ++chunk) {
    const StripeDecays decay(next_w);
    WaysToEnds ways(decay.decay, stripe);
    __syncthreads();
    next_columns.store(columns);
    stripe.store(after, next_rows, ways.after);
#pragma unroll
    for (int i = 0; i < 8; ++i) ways.before[i / 2][i % 2] *= passed[i % 2];
    stripe.store(before, next_rows, ways.before);
    ways.store_whole(wholes, stripe);
#pragma unroll
    for (int c = 0; c < 2; ++c) passed[c] *= ways.whole[c];
    __syncthreads();
    if (chunk + 1 < chunks) read(chunk + 1);
    forward.scale_rows(wholes, spot);
    forward.add(after, columns, spot);
    backward.add(before, columns, spot);
  }
  float* const states = (is_first ? first_states : second_states) + item.index * 2 * kStateSize;
  forward.store<true>(states, spot);
  backward.store<true>(states + kStateSize, spot);
  if (is_first && stripe.group == 0) {
    store_vector(decays + item.index * kSide + stripe.channel, Vector<float, 2>{passed[0], passed[1]});
  }
#endif
}

}  // namespace vrwkv::ops::cuda::wkv6
