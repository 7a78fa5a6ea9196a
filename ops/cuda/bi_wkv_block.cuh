#pragma once

// How the tokens of Bi-WKV are divided, and how sums travel between the parts.
//
// A thread has one channel and a segment of kSegment consecutive tokens. A thread block has 32 channels (its lanes) and
// up to kMaxWarps segments (its warps); its tokens are a chunk. Segments meet in shared memory. The chunks of a
// sequence meet in the shared memory of a thread block cluster or, where there are too many, in global memory between
// two launches.

#include <cooperative_groups.h>

#include <cstdint>

#include "ops/bi_wkv_state.h"

namespace vrwkv::ops::cuda {

constexpr int kLanes = 32;
constexpr int kMaxClusterChunks = 16;

/// How the chunks of a sequence exchange their sums.
enum class Exchange {
  none,     ///< There is one chunk.
  cluster,  ///< The chunks are a thread block cluster.
  global,   ///< What comes in was left in global memory by launches before this one.
};

/// Tokens of one thread. Measured on an H100: for 196 tokens 20 is the best that leaves room for two blocks in a
/// multiprocessor; long sequences gain by few warps, as every warp more is a step more in joining segments.
template <typename T, Exchange kExchange>
constexpr int kSegment = sizeof(T) != 4                ? 8
                         : kExchange == Exchange::none ? 20
                                                       : 32;

/// Warps of a block at most.
template <typename T, Exchange kExchange>
constexpr int kMaxWarps = sizeof(T) == 4 && kExchange != Exchange::none ? 8 : 16;

/// Exponentials and conditional choices of one thread. float uses the hardware's base-2 exponential, whose error is
/// within a few ulp of the result for the arguments that matter here (at most 0, or near it).
template <typename T>
struct ScalarMath {
  using Scalar = T;
  using Mask = bool;
  static __device__ __forceinline__ T exp(T x) {
    if constexpr (sizeof(T) == 4) {
      return __expf(x);
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

struct Shape {
  int64_t batch, tokens, channels;
  int chunks;  ///< Of a sequence; a chunk has warps * kSegment tokens, the last one maybe less.
  int warps;
  int groups;       ///< ceil(channels / kLanes)
  bool vectorized;  ///< Rows of all tensors can be read 16 bytes at a time.
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
  T *gw_parts, *gu_parts;  ///< [batch * chunks, channels]
};

/// What a thread works on. Blocks are numbered in x by channel group, then by batch element; in y by chunk.
template <typename T, int kTokensIn>
struct Place {
  static constexpr int kTokens = kTokensIn;
  int64_t b, channel;
  int64_t group_channel;  ///< First channel of the block.
  int64_t first_token;    ///< Of the segment.
  int64_t first_element;
  int chunk, warp, lane;
  int count;    ///< Tokens of the segment: less than kSegment where the sequence ends, 0 behind it.
  bool inside;  ///< Surplus lanes of the last group work on the last channel too, and write nothing.

  __device__ explicit Place(const Shape& shape) {
    const auto groups = static_cast<unsigned>(shape.groups);
    chunk = static_cast<int>(blockIdx.y);
    b = blockIdx.x / groups;
    lane = static_cast<int>(threadIdx.x);
    warp = static_cast<int>(threadIdx.y);
    group_channel = static_cast<int64_t>(blockIdx.x % groups) * kLanes;
    inside = group_channel + lane < shape.channels;
    channel = inside ? group_channel + lane : shape.channels - 1;
    first_token = (static_cast<int64_t>(chunk) * shape.warps + warp) * kTokens;
    const int64_t left = shape.tokens - first_token;
    count = left < 0 ? 0 : left < kTokens ? static_cast<int>(left) : kTokens;
    first_element = (b * shape.tokens + first_token) * shape.channels + channel;
  }

  /// Index of the chunk's sums in [batch, chunks, channels].
  __device__ int64_t chunk_index(const Shape& shape) const {
    return (b * shape.chunks + chunk) * shape.channels + channel;
  }
  /// The direction (0: what comes from the left, 1: from the right) that this warp gathers for the block, if any.
  __device__ bool gathers(int direction, int warps) const { return warp == (warps > 1 ? direction : 0); }
};

template <typename State>
struct Sides {
  State left, right;
};

/// What blocks leave in global memory for each other, or find there: [2, batch, chunks, channels] of the sums that come
/// from the left and from the right.
template <typename T>
struct GlobalSums {
  Sums<T>* sums;
  template <typename P>
  __device__ Sums<T>& at(int direction, const P& place, const Shape& shape) const {
    return sums[direction * shape.batch * shape.chunks * shape.channels + place.chunk_index(shape)];
  }
};

/// Shared memory of a block: what every arithmetic needs. Tiles of tokens follow it.
template <typename T>
struct SharedMemory {
  static constexpr int kExchanges = 2;  ///< One of forward sums, one of gradient sums.

  static __host__ __device__ int state_bytes(int warps) {
    return 2 * warps * kLanes * static_cast<int>(sizeof(Sums<T>));
  }
  static __host__ __device__ int sums_bytes() { return 2 * kLanes * static_cast<int>(sizeof(Sums<T>)); }
  static __host__ __device__ int largest_bytes(int warps) { return warps * kLanes * static_cast<int>(sizeof(T)); }
  static __host__ __device__ int fetched_bytes(int chunks) {
    return chunks > 1 && chunks <= kMaxClusterChunks ? chunks * kLanes * static_cast<int>(sizeof(Sums<T>)) : 0;
  }
  static __host__ __device__ int bytes(int warps, int chunks) {
    return state_bytes(warps) + (kExchanges + 1) * sums_bytes() + largest_bytes(warps) + fetched_bytes(chunks);
  }

  char* base;
  int warps, chunks;

  /// [2][warps][lanes] sums of each segment, or anything smaller.
  template <typename V>
  __device__ V* segments() const {
    return reinterpret_cast<V*>(base);
  }
  /// [2][lanes] sums of the block, which the other blocks of a cluster read.
  __device__ Sums<T>* totals(int exchange) const {
    return reinterpret_cast<Sums<T>*>(base + state_bytes(warps) + exchange * sums_bytes());
  }
  /// [2][lanes] sums that come in from the other blocks.
  __device__ Sums<T>* incoming() const { return totals(kExchanges); }
  /// [warps][lanes] largest key of each segment.
  __device__ T* largest() const { return reinterpret_cast<T*>(totals(kExchanges + 1)); }
  /// [chunks][lanes] sums of the other blocks of a cluster.
  __device__ Sums<T>* fetched() const { return reinterpret_cast<Sums<T>*>(largest() + warps * kLanes); }
  __device__ char* tiles() const { return base + bytes(warps, chunks); }
};

/// Sum over the warps, in their order; the result is right in warp 0. All threads call it.
template <typename P, typename T>
__device__ T block_sum(T own, const P& place, const SharedMemory<T>& shared) {
  T* values = shared.template segments<T>();
  __syncthreads();
  values[place.warp * kLanes + place.lane] = own;
  __syncthreads();
  T sum = T(0);
  if (place.warp != 0) return sum;
  for (int warp = 0; warp < shared.warps; ++warp) sum += values[warp * kLanes + place.lane];
  return sum;
}

/// Writes the block's parts of the gradients of w and u. All threads call it.
template <typename P, typename T, typename In>
__device__ void write_parts(const GradientPointers<T, In>& gradients, T gw, T gu, const Shape& shape, const P& place,
                            const SharedMemory<T>& shared) {
  gw = block_sum(gw, place, shared);
  gu = block_sum(gu, place, shared);
  if (place.warp == 0 && place.inside) {
    gradients.gw_parts[place.chunk_index(shape)] = gw;
    gradients.gu_parts[place.chunk_index(shape)] = gu;
  }
}

/// Leaves this thread's segment sums in shared memory for the block.
template <typename P, typename State, typename T>
__device__ void put_segment(const State& from_left, const State& from_right, const P& place,
                            const SharedMemory<T>& shared) {
  State* segments = shared.template segments<State>() + place.warp * kLanes + place.lane;
  segments[0] = from_left;
  segments[shared.warps * kLanes] = from_right;
  __syncthreads();
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

/// The block's sums in both directions from those of its segments, starting from `none`: given to
/// `leave(direction, sums)`, by one warp each.
template <typename P, typename State, typename T, typename Join, typename Leave>
__device__ void total_segments(const P& place, const SharedMemory<T>& shared, const State& none, const Join& join,
                               const Leave& leave) {
  const State* segments = shared.template segments<State>() + place.lane;
  if (place.gathers(0, shared.warps)) {
    State state = none;
    for (int warp = 0; warp < shared.warps; ++warp) join(state, segments[warp * kLanes]);
    leave(0, state);
  }
  if (place.gathers(1, shared.warps)) {
    State state = none;
    for (int warp = shared.warps - 1; warp >= 0; --warp) join(state, segments[(shared.warps + warp) * kLanes]);
    leave(1, state);
  }
}

/// Within a cluster: joins the sums of the blocks left and right of this one, and brings them to shared.incoming().
template <typename P, typename T>
__device__ void gather_cluster(const P& place, const Shape& shape, const SharedMemory<T>& shared, T w, int exchange) {
#if __CUDA_ARCH__ >= 900
  const auto cluster = cooperative_groups::this_cluster();
  cluster.sync();
  // All sums are fetched at once, each by a warp, as the way to another block's memory is long.
  Sums<T>* fetched = shared.fetched();
  for (int chunk = place.warp; chunk < shape.chunks; chunk += shape.warps) {
    const int direction = chunk < place.chunk ? 0 : 1;
    const Sums<T>* peer = cluster.map_shared_rank(shared.totals(exchange), static_cast<unsigned>(chunk));
    fetched[chunk * kLanes + place.lane] = peer[direction * kLanes + place.lane];
  }
  __syncthreads();
  const T tokens = static_cast<T>(shape.warps * P::kTokens);
  for (int direction = 0; direction < 2; ++direction) {
    if (!place.gathers(direction, shared.warps)) continue;
    const int first = direction == 0 ? 0 : place.chunk + 1, end = direction == 0 ? place.chunk : shape.chunks;
    const auto passed = [&](int chunk) {
      const int between = (direction == 0 ? place.chunk - chunk : chunk - place.chunk) - 1;
      return fetched[chunk * kLanes + place.lane].n + static_cast<T>(between) * tokens;
    };
    // Unlike a chain of joins, this leaves the exponentials independent of each other.
    Sums<T> incoming;
    clear<ScalarMath<T>>(incoming);
    T largest = incoming.key;
#pragma unroll 4
    for (int chunk = first; chunk < end; ++chunk) {
      const T key = fetched[chunk * kLanes + place.lane].key, n = passed(chunk);
      const bool larger = key - n * w > largest;
      largest = larger ? key - n * w : largest;
      incoming.key = larger ? key : incoming.key;
      incoming.n = larger ? n : incoming.n;
    }
#pragma unroll 4
    for (int chunk = first; chunk < end; ++chunk) {
      const Sums<T>& sums = fetched[chunk * kLanes + place.lane];
      const T scale = ScalarMath<T>::exp(sums.key - passed(chunk) * w - largest);
      incoming.a += sums.a * scale;
      incoming.b += sums.b * scale;
    }
    shared.incoming()[direction * kLanes + place.lane] = incoming;
  }
  __syncthreads();
#else
  (void)place, (void)shape, (void)shared, (void)w, (void)exchange;
#endif
}

/// What comes in from the chunks left and right of this one. `leave(state)` turns the block's sums to what is
/// exchanged.
template <Exchange kExchange, typename State, typename P, typename T, typename Join, typename Leave>
__device__ Sides<Sums<T>> exchange_chunks(const P& place, const Shape& shape, const SharedMemory<T>& shared, T w,
                                          int exchange, const GlobalSums<T>& global, const State& none,
                                          const Join& join, const Leave& leave) {
  if constexpr (kExchange == Exchange::cluster) {
    total_segments(place, shared, none, join, [&](int direction, const State& state) {
      shared.totals(exchange)[direction * kLanes + place.lane] = leave(state);
    });
    gather_cluster(place, shape, shared, w, exchange);
    return {shared.incoming()[place.lane], shared.incoming()[kLanes + place.lane]};
  } else {
    return {global.at(0, place, shape), global.at(1, place, shape)};
  }
}

/// A block's shared memory must outlive the last read by the others of its cluster.
template <Exchange kExchange>
__device__ void leave_cluster() {
#if __CUDA_ARCH__ >= 900
  if constexpr (kExchange == Exchange::cluster) cooperative_groups::this_cluster().sync();
#endif
}

template <typename T>
__device__ __forceinline__ T sigmoid(T x) {
  if constexpr (sizeof(T) == 4) {
    return __fdividef(1.0f, 1.0f + __expf(-x));  // 0 for x below -87, where e^{-x} is infinite.
  } else {
    return T(1) / (T(1) + ::exp(-x));
  }
}

}  // namespace vrwkv::ops::cuda
