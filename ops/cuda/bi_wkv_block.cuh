#pragma once

// How the tokens of Bi-WKV are divided, and how sums travel between the parts.
//
// A thread has one channel (two in bi_wkv_pairs.cuh) and a segment of kSegment consecutive tokens. A thread block has
// 32 lanes and several segments (its warps); its tokens are a chunk. Segments meet in shared memory, the chunks of a
// sequence in global memory: while the kernel runs where all chunks of a sequence can be on the device at once, else
// between two launches.

#include <ATen/cuda/detail/IntegerDivider.cuh>
#include <cstdint>
#include <cuda/atomic>

#include "ops/bi_wkv_state.h"
#include "ops/cuda/fast_math.cuh"
#include "ops/cuda/sigmoid.cuh"
#include "ops/cuda/vector.cuh"

namespace vrwkv::ops::cuda {

constexpr int kLanes = 32;

/// How the chunks of a sequence exchange their sums.
enum class Exchange {
  none,     ///< There is one chunk.
  running,  ///< Blocks wait for each other's sums: all of a sequence are on the device at once.
  former,   ///< Launches before this one have left them.
};

enum class Pass { forward, backward };

/// Tokens of one thread. What a segment takes anyway is as much as 20 tokens take in the kernels, whose limit is the
/// number of instructions: so the more the better, while enough warps fit a multiprocessor. Where chunks wait for each
/// other, small blocks of long segments do best.
template <typename T, Exchange kExchange, Pass kPass>
constexpr int kSegment = sizeof(T) != 4                                           ? 8
                         : kExchange == Exchange::none || kPass == Pass::backward ? 28
                                                                                  : 49;

/// Tokens of a step of the loops over a segment.
constexpr int kPart = 7;

/// Tokens of a sequence that a block takes alone, at most, and of a chunk where there are several: what both passes
/// have whole segments of, and a sequence of 14 x 14 tokens.
template <typename T>
constexpr int kTokensAlone = sizeof(T) == 4 ? 308 : 128;
template <typename T>
constexpr int kChunkTokens = sizeof(T) == 4 ? 196 : 80;

/// Tokens of a sequence from which on a chunk has twice as many in a forward pass alone, in float32 and where a
/// multiprocessor has the memory for two: every chunk reads the sums of all others, so half as many read a quarter. In
/// the backward pass only one would fit.
constexpr int64_t kLongTokens = 8193;
constexpr size_t kTwoLongChunksBytes = 220 * 1024;

/// Tokens from which on a block of the forward pass takes pairs of channels. Shorter sequences fill the device with as
/// few turns one by one, with twice as many blocks. How many elements the batch has decides nothing, so that it gives
/// what they get alone.
constexpr int64_t kPairTokens = 2048;

/// Exponentials and conditional choices of one thread. float uses the hardware's base-2 exponential, whose error is
/// within a few ulp of the result for the arguments that matter here (at most 0, or near it).
template <typename T>
struct ScalarMath {
  using Scalar = T;
  using Mask = bool;
  static __device__ __forceinline__ T exp(T x) {
    if constexpr (sizeof(T) == 4) {
      return fast_exp(x);
    } else {
      return ::exp(x);
    }
  }
  static __device__ __forceinline__ T neg_abs(T x) { return x < T(0) ? x : -x; }
  static __device__ __forceinline__ T max(T x, T y) { return x > y ? x : y; }
  static __device__ __forceinline__ bool greater_equal(T x, T y) { return x >= y; }
  static __device__ __forceinline__ T select(bool mask, T yes, T no) { return mask ? yes : no; }
  static __device__ __forceinline__ T fmadd(T x, T y, T z) { return x * y + z; }
  static __device__ __forceinline__ T fnmadd(T x, T y, T z) { return z - x * y; }
};

using Divider = at::cuda::detail::IntDivider<unsigned>;  ///< Of numbers below 2^31.

struct Shape {
  int64_t batch, tokens, channels;
  int chunks;  ///< Of a sequence; the last one may have fewer tokens.
  int warps;
  int groups;           ///< ceil(channels / kLanes)
  bool vectorized;      ///< Rows of all tensors can be read 16 bytes at a time.
  int64_t all_sums;     ///< Sums of chunks in one direction: batch * chunks * channels.
  int sequence_cycles;  ///< By which each sequence of a kernel's first turn starts after the one before; or 0.
  Divider by_pair_groups, by_other_chunks;

  __host__ __device__ int64_t sequences() const { return batch * groups; }
  // Where a block takes two groups:
  __host__ __device__ int pair_groups() const { return (groups + 1) / 2; }
  __host__ __device__ int64_t pair_sequences() const { return batch * pair_groups(); }
  __host__ __device__ int64_t items() const { return sequences() * chunks; }
};

/// Arguments of every Bi-WKV kernel. [B, T, C] tensors are contiguous.
template <typename T, typename In>
struct Inputs {
  const T *w, *u;
  const In *k, *v;
  const In* r;  ///< Logits of the gate, or null.
};

/// What the backward pass reads and writes besides.
template <typename T, typename In>
struct GradientPointers {
  const In* gy;
  In *gk, *gv, *gr;        ///< gr is null without a gate.
  int64_t stride;          ///< From token to token of gk, gv and gr.
  T *gw_parts, *gu_parts;  ///< [batch * chunks, channels]
};

/// What a thread works on: kTokensIn tokens of one channel of a chunk of a sequence, which is one batch element and
/// channel group. Chunks are numbered within their sequence, then by group, then by batch element. kAlone: there is one
/// chunk, which saves the fast way registers.
template <typename T, int kTokensIn, bool kAlone>
struct Place {
  static constexpr int kTokens = kTokensIn;
  static constexpr int kWidth = 1;  ///< Channels of a thread.
  int64_t sequence, b, channel;
  int64_t group_channel;  ///< First channel of the block.
  int64_t first_token;    ///< Of the segment.
  int64_t first_row;      ///< Of the segment, in [batch * tokens].
  int64_t first_element;
  int chunk, warp, lane;
  int count;    ///< Tokens of the segment: less than kSegment where the sequence ends, 0 behind it.
  bool inside;  ///< Surplus lanes of the last group work on the last channel too, and write nothing.

  __device__ Place(const Shape& shape, unsigned item)
      : Place(shape, kAlone ? 0 : item % static_cast<unsigned>(shape.chunks),
              kAlone ? item : item / static_cast<unsigned>(shape.chunks)) {}
  __device__ Place(const Shape& shape, unsigned chunk_in, unsigned sequence_in)
      : Place(shape, chunk_in, sequence_in / static_cast<unsigned>(shape.groups),
              sequence_in % static_cast<unsigned>(shape.groups)) {}
  __device__ Place(const Shape& shape, unsigned chunk_in, unsigned b_in, unsigned group) {
    chunk = static_cast<int>(chunk_in);
    b = b_in;
    sequence = b * shape.groups + group;
    lane = static_cast<int>(threadIdx.x);
    warp = static_cast<int>(threadIdx.y);
    group_channel = static_cast<int64_t>(group) * kLanes;
    inside = group_channel + lane < shape.channels;
    channel = inside ? group_channel + lane : shape.channels - 1;
    first_token = (static_cast<int64_t>(chunk) * shape.warps + warp) * kTokens;
    const int64_t left = shape.tokens - first_token;
    count = left < 0 ? 0 : left < kTokens ? static_cast<int>(left) : kTokens;
    first_row = b * shape.tokens + first_token;
    first_element = first_row * shape.channels + channel;
  }

  static __device__ int warps(const Shape& shape) { return shape.warps; }
  __device__ bool is_inside(const Shape& /*shape*/) const { return inside; }
  __device__ int64_t first_channel() const { return channel; }
  /// The segment's first value in a tensor whose tokens are `stride` apart, but for its channel.
  __device__ int64_t first(int64_t stride) const { return first_row * stride; }
  /// Index of the chunk's sums in [batch, chunks, channels].
  __device__ int64_t chunk_index(const Shape& shape, int /*c*/ = 0) const {
    return (b * shape.chunks + chunk) * shape.channels + channel;
  }
};

/// What a thread works on where it takes two neighbouring channels: kTokensIn tokens of each, in blocks of kWarpsIn
/// warps. Products of two 32-bit numbers, which all of these are, take one instruction; the launcher takes care that
/// they suffice.
template <int kTokensIn, int kWarpsIn>
struct PairPlace {
  static constexpr int kTokens = kTokensIn;
  static constexpr int kWarps = kWarpsIn;
  static constexpr int kWidth = 2;
  unsigned sequence;  ///< The first of the two.
  unsigned b, group_channel, first_row;
  int chunk, warp, lane, count;

  /// Of pairs of channel groups, number `pair`.
  __device__ PairPlace(const Shape& shape, unsigned chunk_in, unsigned pair) {
    const auto [b_of, group] = shape.by_pair_groups.divmod(pair);
    chunk = static_cast<int>(chunk_in);
    b = b_of;
    lane = static_cast<int>(threadIdx.x);
    warp = static_cast<int>(threadIdx.y);
    sequence = b * static_cast<unsigned>(shape.groups) + group * kWidth;
    group_channel = group * kLanes * kWidth;
    const int first_token = (chunk * kWarps + warp) * kTokens;
    // In 64 bits: of 32-bit numbers nvcc 13.0 takes whether count is kTokens from a predicate of the minimum that is
    // not that, and unfinished segments were read beyond their end.
    const int64_t left = shape.tokens - first_token;
    count = left < 0 ? 0 : left < kTokens ? static_cast<int>(left) : kTokens;
    first_row = b * static_cast<unsigned>(shape.tokens) + static_cast<unsigned>(first_token);
  }

  static constexpr __device__ int warps(const Shape& /*shape*/) { return kWarps; }
  /// Whether the thread has channels, of which there are only whole pairs.
  __device__ bool is_inside(const Shape& shape) const { return inside(shape, 0); }
  __device__ unsigned first_channel() const { return own(0); }
  __device__ bool inside(const Shape& shape, int c) const { return own(c) < static_cast<unsigned>(shape.channels); }
  /// Channel c; surplus ones are the last channel.
  __device__ unsigned channel(const Shape& shape, int c) const {
    return min(own(c), static_cast<unsigned>(shape.channels) - 1);
  }
  /// The first of the thread's channels where these are an even number; surplus pairs are the last pair.
  __device__ unsigned whole_pair(const Shape& shape) const {
    return min(own(0), static_cast<unsigned>(shape.channels) - kWidth);
  }
  /// The segment's first value in a tensor whose tokens are `stride` apart, but for its channel.
  __device__ int64_t first(int64_t stride) const { return product(first_row, stride); }
  /// Index of the chunk's sums in [batch, chunks, channels].
  __device__ int64_t chunk_index(const Shape& shape, int c) const {
    return product(b * static_cast<unsigned>(shape.chunks) + static_cast<unsigned>(chunk), shape.channels) +
           channel(shape, c);
  }

 private:
  __device__ unsigned own(int c) const { return group_channel + static_cast<unsigned>(lane * kWidth + c); }
  static __device__ int64_t product(unsigned x, int64_t y) {
    return static_cast<int64_t>(static_cast<uint64_t>(x) * static_cast<unsigned>(y));
  }
};

/// Lets `cycles` pass.
__device__ __forceinline__ void wait_cycles(int64_t cycles) {
  const int64_t start = clock64();
  while (clock64() - start < cycles) __nanosleep(100);
}

template <typename T, Exchange kExchange, Pass kPass>
using PlaceOf = Place<T, kSegment<T, kExchange, kPass>, kExchange == Exchange::none>;

/// What a thread works on in the backward pass for pairs of channels, whose segments are whole in every forward pass.
template <typename T>
using BackwardPairs = PairPlace<kSegment<T, Exchange::running, Pass::backward>,
                                kChunkTokens<T> / kSegment<T, Exchange::running, Pass::backward>>;

template <typename State>
struct Sides {
  State left, right;
};

/// Sums in memory, aligned to their size, in as few accesses as can be.
template <typename T>
__device__ __forceinline__ Sums<T> load_sums(const Sums<T>* from) {
  const auto values = load_vector<4>(reinterpret_cast<const T*>(from)).values;
  return {values[0], values[1], values[2], values[3]};
}
template <typename T>
__device__ __forceinline__ void store_sums(Sums<T>* to, const Sums<T>& sums) {
  store_vector(reinterpret_cast<T*>(to), Vector<T, 4>{sums.a, sums.b, sums.key, sums.n});
}

/// Sums of or beside all chunks in global memory: [2, batch, chunks, channels], of what comes from the left and from
/// the right.
template <typename T>
struct ChunkSums {
  Sums<T>* sums;
  template <typename P>
  __device__ Sums<T>* at(int direction, const P& place, const Shape& shape, int c = 0) const {
    return &sums[(direction == 0 ? 0 : shape.all_sums) + place.chunk_index(shape, c)];
  }
};

/// What a forward pass keeps for the backward pass: what comes in to each of several chunks and, where that takes pairs
/// of channels, all that stands beside each of its segments, in the frames of their chunks (bi_wkv_framed.cuh).
template <typename T>
struct KeptSums : ChunkSums<T> {
  T* beside;  ///< [2, batch, segments, channels, 2] a and b left and right of the segments, or null.
  T* frames;  ///< [batch, chunks, channels]
  int64_t segments;

  __device__ T* at_beside(int direction, int64_t b, int64_t segment, const Shape& shape, int64_t channel) const {
    return beside + 2 * (((direction * shape.batch + b) * segments + segment) * shape.channels + channel);
  }
};

/// The sums of the chunks themselves, which the blocks of a sequence exchange.
template <typename T>
struct GlobalSums : ChunkSums<T> {
  unsigned* arrived;  ///< [sequences] warps that have left sums; for Exchange::running.
};

/// Shared memory of a block: what every arithmetic needs. Tiles of tokens follow it.
template <typename T>
struct SharedMemory {
  /// Of one sum for every thread.
  static __host__ __device__ int sum_bytes(int warps) { return warps * kLanes * static_cast<int>(sizeof(Sums<T>)); }
  static __host__ __device__ int largest_bytes(int warps) { return warps * kLanes * static_cast<int>(sizeof(T)); }
  static __host__ __device__ int bytes(int warps) { return 3 * sum_bytes(warps) + largest_bytes(warps); }

  char* base;
  int warps;

  /// [2][warps][lanes] sums of each segment, or anything smaller. Of V half as large, there is another place, 1.
  template <typename V>
  __device__ V* segments(int which = 0) const {
    return reinterpret_cast<V*>(base + which * sum_bytes(warps));
  }
  /// [warps][lanes] sums of other chunks as the warps have gathered them.
  __device__ Sums<T>* gathered() const { return reinterpret_cast<Sums<T>*>(base + 2 * sum_bytes(warps)); }
  /// [warps][lanes] largest key of each segment.
  __device__ T* largest() const { return reinterpret_cast<T*>(base + 3 * sum_bytes(warps)); }
  __device__ char* tiles() const { return base + bytes(warps); }
};

/// Writes the block's parts of the gradients of w and u: sums over the warps, in their order. All threads call it.
template <typename P, typename T, typename In>
__device__ void write_parts(const GradientPointers<T, In>& gradients, T gw, T gu, const Shape& shape, const P& place,
                            const SharedMemory<T>& shared) {
  T* values = shared.template segments<T>() + place.lane;
  __syncthreads();
  values[place.warp * kLanes] = gw;
  values[(shared.warps + place.warp) * kLanes] = gu;
  __syncthreads();
  for (int which = 0; which < 2; ++which) {
    if (place.warp != (shared.warps > 1 ? which : 0)) continue;
    T sum = T(0);
#pragma unroll 4
    for (int warp = 0; warp < shared.warps; ++warp) sum += values[(which * shared.warps + warp) * kLanes];
    if (place.inside) (which == 0 ? gradients.gw_parts : gradients.gu_parts)[place.chunk_index(shape)] = sum;
  }
}

/// Leaves this thread's segment sums in shared memory for the block, which synchronises afterwards.
template <typename P, typename State, typename T>
__device__ void put_segment(const State& from_left, const State& from_right, const P& place,
                            const SharedMemory<T>& shared) {
  State* segments = shared.template segments<State>() + place.warp * kLanes + place.lane;
  segments[0] = from_left;
  segments[shared.warps * kLanes] = from_right;
}

/// Joins to `sides` the segments left of this one, and those right of it.
template <typename P, typename State, typename T, typename Join>
__device__ void join_segments(Sides<State>& sides, const P& place, const SharedMemory<T>& shared, const Join& join) {
  const State* segments = shared.template segments<State>() + place.lane;
#pragma unroll 4
  for (int warp = 0; warp < place.warp; ++warp) join(sides.left, segments[warp * kLanes]);
  segments += shared.warps * kLanes;
#pragma unroll 4
  for (int warp = shared.warps - 1; warp > place.warp; --warp) join(sides.right, segments[warp * kLanes]);
}

}  // namespace vrwkv::ops::cuda
