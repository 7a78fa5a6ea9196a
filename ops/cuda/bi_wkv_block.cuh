#pragma once

// How the tokens of Bi-WKV are divided, and how sums travel between the parts.
//
// A thread has one channel and a segment of kSegment consecutive tokens. A thread block has 32 channels (its lanes) and
// up to kMaxWarps segments (its warps); its tokens are a chunk. Segments meet in shared memory, the chunks of a
// sequence in global memory: while the kernel runs where all chunks of a sequence can be on the device at once, else
// between two launches.

#include <cstdint>
#include <cuda/atomic>

#include "ops/bi_wkv_state.h"
#include "ops/cuda/sigmoid.cuh"

namespace vrwkv::ops::cuda {

constexpr int kLanes = 32;

/// How the chunks of a sequence exchange their sums.
enum class Exchange {
  none,     ///< There is one chunk.
  running,  ///< Blocks wait for each other's sums: all of a sequence are on the device at once.
  former,   ///< What comes in was left by launches before this one.
};

/// Tokens of one thread. Measured on an H100: 20 is the best that leaves room for two blocks of 10 warps (a sequence of
/// 196 tokens) in a multiprocessor.
template <typename T>
constexpr int kSegment = sizeof(T) == 4 ? 20 : 8;

/// Warps of a block at most, alone or with others of its sequence: two of these fit a multiprocessor.
constexpr int kMaxWarpsAlone = 16;
constexpr int kMaxWarps = 10;

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

  __host__ __device__ int64_t sequences() const { return batch * groups; }
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
  T *gw_parts, *gu_parts;  ///< [batch * chunks, channels]
};

/// What a thread works on: a chunk of a sequence, which is one batch element and channel group. Items are numbered by
/// chunk, then by group, then by batch element. kAlone: there is one chunk, which saves the fast way registers.
template <typename T, int kTokensIn, bool kAlone>
struct Place {
  static constexpr int kTokens = kTokensIn;
  int64_t sequence, b, channel;
  int64_t group_channel;  ///< First channel of the block.
  int64_t first_token;    ///< Of the segment.
  int64_t first_element;
  int chunk, warp, lane;
  int count;    ///< Tokens of the segment: less than kSegment where the sequence ends, 0 behind it.
  bool inside;  ///< Surplus lanes of the last group work on the last channel too, and write nothing.

  __device__ Place(const Shape& shape, unsigned item) {
    const auto groups = static_cast<unsigned>(shape.groups);
    const unsigned chunks = kAlone ? 1 : static_cast<unsigned>(shape.chunks);
    chunk = static_cast<int>(item % chunks);
    sequence = item / chunks;
    b = item / chunks / groups;
    lane = static_cast<int>(threadIdx.x);
    warp = static_cast<int>(threadIdx.y);
    group_channel = static_cast<int64_t>(item / chunks % groups) * kLanes;
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
  unsigned* arrived;  ///< [sequences] chunks that have left their sums, 0 at the start; for Exchange::running.
  template <typename P>
  __device__ Sums<T>& at(int direction, const P& place, const Shape& shape) const {
    return sums[direction * shape.batch * shape.chunks * shape.channels + place.chunk_index(shape)];
  }
};

/// Shared memory of a block: what every arithmetic needs. Tiles of tokens follow it.
template <typename T>
struct SharedMemory {
  static __host__ __device__ int state_bytes(int warps) {
    return 2 * warps * kLanes * static_cast<int>(sizeof(Sums<T>));
  }
  static __host__ __device__ int sums_bytes() { return 2 * kLanes * static_cast<int>(sizeof(Sums<T>)); }
  static __host__ __device__ int largest_bytes(int warps) { return warps * kLanes * static_cast<int>(sizeof(T)); }
  static __host__ __device__ int gathered_bytes(int warps) {
    return warps * kLanes * static_cast<int>(sizeof(Sums<T>));
  }
  static __host__ __device__ int bytes(int warps) {
    return state_bytes(warps) + sums_bytes() + largest_bytes(warps) + gathered_bytes(warps);
  }

  char* base;
  int warps;

  /// [2][warps][lanes] sums of each segment, or anything smaller.
  template <typename V>
  __device__ V* segments() const {
    return reinterpret_cast<V*>(base);
  }
  /// [2][lanes] sums that come in from the other blocks.
  __device__ Sums<T>* incoming() const { return reinterpret_cast<Sums<T>*>(base + state_bytes(warps)); }
  /// [warps][lanes] sums of the other blocks, as each warp has gathered them.
  __device__ Sums<T>* gathered() const { return incoming() + 2 * kLanes; }
  /// [warps][lanes] largest key of each segment.
  __device__ T* largest() const { return reinterpret_cast<T*>(gathered() + warps * kLanes); }
  __device__ char* tiles() const { return base + bytes(warps); }
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

/// Says that the block's sums are in global memory, and waits for those of all chunks of the sequence. All threads call
/// it.
template <typename P, typename T>
__device__ void meet_sequence(const P& place, const Shape& shape, const GlobalSums<T>& global) {
  __syncthreads();
  if (threadIdx.x == 0 && threadIdx.y == 0) {
    const ::cuda::atomic_ref<unsigned, ::cuda::thread_scope_device> arrived(global.arrived[place.sequence]);
    arrived.fetch_add(1, ::cuda::memory_order_release);
    while (arrived.load(::cuda::memory_order_acquire) < static_cast<unsigned>(shape.chunks)) __nanosleep(20);
  }
  __syncthreads();
}

/// The sums of the chunks on one side of this one, joined. Each of half the block's warps takes its share of the
/// chunks, from far to near; one of them then joins the shares.
template <typename P, typename T>
__device__ void gather_side(int direction, const P& place, const Shape& shape, const SharedMemory<T>& shared, T w,
                            const GlobalSums<T>& global) {
  using M = ScalarMath<T>;
  const int workers = shared.warps / 2;  // There are several warps where there are several chunks.
  const int worker = place.warp - direction * workers;
  if (worker < 0 || worker >= workers) return;
  const T tokens = static_cast<T>(shape.warps * P::kTokens);
  const int count = direction == 0 ? place.chunk : shape.chunks - 1 - place.chunk;
  const int64_t step = (direction == 0 ? 1 : -1) * shape.channels;
  const Sums<T>* farthest = &global.at(direction, place, shape) - count * step;
  Sums<T> sums;
  clear<M>(sums);
#pragma unroll 4
  for (int i = worker; i < count; i += workers) {
    join<M>(sums, w, static_cast<T>(workers) * tokens, farthest[i * step]);
  }
  // From the last chunk of this share to this block.
  sums.n += static_cast<T>(count > worker ? (count - 1 - worker) % workers : 0) * tokens;
  Sums<T>* gathered = shared.gathered() + place.lane;
  gathered[place.warp * kLanes] = sums;
}

/// What comes in from the chunks left and right of this one. `leave(state)` turns the block's sums to what is
/// exchanged.
template <Exchange kExchange, typename State, typename P, typename T, typename Join, typename Leave>
__device__ Sides<Sums<T>> exchange_chunks(const P& place, const Shape& shape, const SharedMemory<T>& shared, T w,
                                          const GlobalSums<T>& global, const State& none, const Join& join_segment,
                                          const Leave& leave) {
  if constexpr (kExchange == Exchange::former) {
    return {global.at(0, place, shape), global.at(1, place, shape)};
  } else {
    total_segments(place, shared, none, join_segment, [&](int direction, const State& state) {
      if (place.inside) global.at(direction, place, shape) = leave(state);
    });
    meet_sequence(place, shape, global);
    gather_side(0, place, shape, shared, w, global);
    gather_side(1, place, shape, shared, w, global);
    __syncthreads();
    const int workers = shared.warps / 2;
    for (int direction = 0; direction < 2; ++direction) {
      if (!place.gathers(direction, shared.warps)) continue;
      const Sums<T>* gathered = shared.gathered() + direction * workers * kLanes + place.lane;
      Sums<T> sums = gathered[0];
      for (int worker = 1; worker < workers; ++worker) {
        join<ScalarMath<T>>(sums, w, T(0), gathered[worker * kLanes]);
      }
      shared.incoming()[direction * kLanes + place.lane] = sums;
    }
    __syncthreads();
    return {shared.incoming()[place.lane], shared.incoming()[kLanes + place.lane]};
  }
}

}  // namespace vrwkv::ops::cuda
