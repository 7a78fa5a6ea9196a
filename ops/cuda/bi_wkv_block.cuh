#pragma once

// How the tokens of Bi-WKV are divided, and how sums travel between the parts.
//
// A thread has one channel and a segment of kSegment consecutive tokens, in registers. A thread block has 32 channels
// (its lanes) and up to kMaxWarps segments (its warps); its tokens are a chunk. Segments meet in shared memory. The chunks
// of a sequence meet in the shared memory of a thread block cluster or, where there are too many, in global memory between
// two launches.

#include <cooperative_groups.h>

#include <cstdint>

#include "ops/cuda/bi_wkv_arithmetic.cuh"

namespace vrwkv::ops::cuda {

constexpr int kLanes = 32;
constexpr int kMaxWarps = 16;
constexpr int kMaxClusterChunks = 16;

/// Tokens of one thread.
template <typename T>
constexpr int kSegment = sizeof(T) == 4 ? 16 : 4;

struct Shape {
  int64_t batch, tokens, channels;
  int chunks;  ///< Of a sequence; a chunk has warps * kSegment tokens, the last one maybe less.
  int warps;
  int groups;  ///< ceil(channels / kLanes)
};

/// How the chunks of a sequence exchange their sums.
enum class Exchange {
  none,     ///< There is one chunk.
  cluster,  ///< The chunks are a thread block cluster.
  global,   ///< What comes in was left in global memory by launches before this one.
};

/// What a thread works on. Blocks are numbered by chunk, then by channel group, then by batch element.
template <typename T>
struct Place {
  int64_t b, channel, first_element;
  int chunk, warp, lane;
  int count;    ///< Tokens of the segment: less than kSegment where the sequence ends, 0 behind it.
  bool inside;  ///< Surplus lanes of the last group work on the last channel too, and write nothing.

  __device__ explicit Place(const Shape& shape) {
    const auto column = blockIdx.x / static_cast<unsigned>(shape.chunks);
    chunk = static_cast<int>(blockIdx.x % static_cast<unsigned>(shape.chunks));
    b = column / static_cast<unsigned>(shape.groups);
    lane = static_cast<int>(threadIdx.x);
    warp = static_cast<int>(threadIdx.y);
    const int64_t wanted = static_cast<int64_t>(column % static_cast<unsigned>(shape.groups)) * kLanes + lane;
    inside = wanted < shape.channels;
    channel = inside ? wanted : shape.channels - 1;
    const int64_t first_token = (static_cast<int64_t>(chunk) * shape.warps + warp) * kSegment<T>;
    const int64_t left = shape.tokens - first_token;
    count = left < 0 ? 0 : left < kSegment<T> ? static_cast<int>(left) : kSegment<T>;
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
  __device__ Sums<T>& at(int direction, const Place<T>& place, const Shape& shape) const {
    return sums[direction * shape.batch * shape.chunks * shape.channels + place.chunk_index(shape)];
  }
};

/// Shared memory of a block.
template <typename T>
struct SharedMemory {
  static constexpr int kExchanges = 2;  ///< One of forward sums, one of gradient sums.

  static __host__ __device__ int state_bytes(int warps) { return 2 * warps * kLanes * static_cast<int>(sizeof(Sums<T>)); }
  static __host__ __device__ int sums_bytes() { return 2 * kLanes * static_cast<int>(sizeof(Sums<T>)); }
  static __host__ __device__ int stash_bytes(int warps) {
    return 3 * warps * kSegment<T> * kLanes * static_cast<int>(sizeof(T));
  }
  static __host__ __device__ int bytes(int warps, bool with_stash) {
    return state_bytes(warps) + (kExchanges + 1) * sums_bytes() + (with_stash ? stash_bytes(warps) : 0);
  }

  char* base;
  int warps;

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
  __device__ Sums<T>* incoming() const {
    return reinterpret_cast<Sums<T>*>(base + state_bytes(warps) + kExchanges * sums_bytes());
  }
  /// Value `i` of token `token` of the thread at `place`.
  __device__ T& stash(const Place<T>& place, int i, int token) const {
    T* values = reinterpret_cast<T*>(base + state_bytes(warps) + (kExchanges + 1) * sums_bytes());
    return values[((place.warp * 3 + i) * kSegment<T> + token) * kLanes + place.lane];
  }
};

/// Largest value of each channel in the block. All threads call it.
template <typename T>
__device__ T block_largest(T own, const Place<T>& place, const SharedMemory<T>& shared) {
  T* values = shared.template segments<T>();
  values[place.warp * kLanes + place.lane] = own;
  __syncthreads();
  T largest = own;
  for (int warp = 0; warp < shared.warps; ++warp) {
    largest = ScalarMath<T>::max(largest, values[warp * kLanes + place.lane]);
  }
  __syncthreads();
  return largest;
}

/// Sum over the warps, in their order; the result is right in warp 0. All threads call it.
template <typename T>
__device__ T block_sum(T own, const Place<T>& place, const SharedMemory<T>& shared) {
  T* values = shared.template segments<T>();
  __syncthreads();
  values[place.warp * kLanes + place.lane] = own;
  __syncthreads();
  T sum = T(0);
  if (place.warp != 0) return sum;
  for (int warp = 0; warp < shared.warps; ++warp) sum += values[warp * kLanes + place.lane];
  return sum;
}

/// The block's sums in both directions from those of its segments: written by `leave(direction, state)`.
template <typename State, typename T, typename Join, typename Leave>
__device__ void total_segments(const Place<T>& place, const SharedMemory<T>& shared, State state, const Join& join,
                               const Leave& leave) {
  const State* segments = shared.template segments<State>() + place.lane;
  const State none = state;
  if (place.gathers(0, shared.warps)) {
    for (int warp = 0; warp < shared.warps; ++warp) join(state, segments[warp * kLanes]);
    leave(0, state);
  }
  if (place.gathers(1, shared.warps)) {
    state = none;
    for (int warp = shared.warps - 1; warp >= 0; --warp) join(state, segments[(shared.warps + warp) * kLanes]);
    leave(1, state);
  }
}

/// Within a cluster: joins the sums of the blocks left and right of this one, and brings them to shared.incoming().
template <typename T>
__device__ void gather_cluster(const Place<T>& place, const Shape& shape, const SharedMemory<T>& shared, T w,
                               int exchange) {
#if __CUDA_ARCH__ >= 900
  const auto cluster = cooperative_groups::this_cluster();
  cluster.sync();
  Sums<T>* totals = shared.totals(exchange);
  const T tokens = static_cast<T>(shape.warps * kSegment<T>);
  for (int direction = 0; direction < 2; ++direction) {
    if (!place.gathers(direction, shared.warps)) continue;
    Sums<T> incoming;
    clear<ScalarMath<T>>(incoming);
    const int step = direction == 0 ? 1 : -1;
    for (int chunk = direction == 0 ? 0 : shape.chunks - 1; chunk != place.chunk; chunk += step) {
      const Sums<T>* peer = cluster.map_shared_rank(totals, static_cast<unsigned>(chunk));
      join<ScalarMath<T>>(incoming, w, tokens, peer[direction * kLanes + place.lane]);
    }
    shared.incoming()[direction * kLanes + place.lane] = incoming;
  }
  __syncthreads();
#else
  (void)place, (void)shape, (void)shared, (void)w, (void)exchange;
#endif
}

/// A block's shared memory must outlive the last read by the others of its cluster.
template <Exchange kExchange>
__device__ void leave_cluster() {
#if __CUDA_ARCH__ >= 900
  if constexpr (kExchange == Exchange::cluster) cooperative_groups::this_cluster().sync();
#endif
}

/// Replaces the sums of every chunk by those of all chunks left of it (direction 0) or right of it (direction 1).
template <typename T>
__global__ void __launch_bounds__(128) scan_chunks_kernel(Shape shape, const T* __restrict__ w_ptr, Sums<T>* sums) {
  const int64_t columns = shape.batch * shape.channels;
  const int64_t index = static_cast<int64_t>(blockIdx.x) * 128 + threadIdx.x;
  if (index >= 2 * columns) return;
  const bool from_right = index >= columns;
  const int64_t column = from_right ? index - columns : index;
  const int64_t channel = column % shape.channels;
  const T w = w_ptr[channel];
  const T tokens = static_cast<T>(shape.warps * kSegment<T>);
  Sums<T>* first = sums + ((from_right ? shape.batch : 0) + column / shape.channels) * shape.chunks * shape.channels + channel;
  Sums<T> carry;
  clear<ScalarMath<T>>(carry);
  for (int step = 0; step < shape.chunks; ++step) {
    Sums<T>* place = first + (from_right ? shape.chunks - 1 - step : step) * shape.channels;
    const Sums<T> own = *place;
    *place = carry;
    join<ScalarMath<T>>(carry, w, tokens, own);
  }
}

}  // namespace vrwkv::ops::cuda
