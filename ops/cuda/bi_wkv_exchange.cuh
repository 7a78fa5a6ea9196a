#pragma once

// How the blocks of a sequence exchange the sums of their chunks in global memory.

#include <cooperative_groups.h>

#include "ops/cuda/bi_wkv_block.cuh"

namespace vrwkv::ops::cuda {

/// Leaves the sums of the block's chunk in both directions. `beside` is what the block has left and right of this
/// segment, `own` the segment's sums from the left and from the right.
template <typename State, typename P, typename T, typename Join, typename Leave>
__device__ __forceinline__ void leave_chunk(const P& place, const Shape& shape, const GlobalSums<T>& global,
                                            const Sides<State>& beside, const Sides<State>& own, const Join& join,
                                            const Leave& leave) {
  if (!place.inside) return;
  if (place.warp == shape.warps - 1) {
    State state = beside.left;
    join(state, own.left);
    store_sums(global.at(0, place, shape), leave(state));
  }
  if (place.warp == 0) {
    State state = beside.right;
    join(state, own.right);
    store_sums(global.at(1, place, shape), leave(state));
  }
}

/// Sets the counters of all sequences to 0, by all blocks of the grid, which are on the device together: without a
/// launch before this one, which takes longer than the blocks' meeting. No block may count before the object's wait(),
/// which is best called late: then the blocks meet while they work.
class ClearedArrivals {
 public:
  template <typename T>
  __device__ __forceinline__ ClearedArrivals(const Shape& shape, const GlobalSums<T>& global) {
    const unsigned threads = blockDim.x * blockDim.y, thread = threadIdx.y * blockDim.x + threadIdx.x;
    const auto sequences = static_cast<unsigned>(shape.sequences());
    const unsigned block = blockIdx.y * gridDim.x + blockIdx.x, blocks = gridDim.x * gridDim.y;
    for (unsigned i = block * threads + thread; i < sequences; i += blocks * threads) global.arrived[i] = 0;
    token_ = cooperative_groups::this_grid().barrier_arrive();
  }
  /// All threads call it, once.
  __device__ __forceinline__ void wait() {
    cooperative_groups::this_grid().barrier_wait(cooperative_groups::grid_group::arrival_token(token_));
  }

 private:
  cooperative_groups::grid_group::arrival_token token_;
};

/// The same where nobody meets.
struct NoArrivals {
  template <typename T>
  __device__ __forceinline__ NoArrivals(const Shape& /*shape*/, const GlobalSums<T>& /*global*/) {}
  __device__ __forceinline__ void wait() const {}
};

/// Says that the block's sums are in global memory, by each of the outermost warps, which have left them, and waits for
/// those of all chunks of the sequence. All threads call it. (A mark in the sums themselves, with every warp waiting
/// for what it reads, saved a journey to the second cache and lost more by keeping it busy.)
template <typename P, typename T>
__device__ __forceinline__ void meet_sequence(const P& place, const Shape& shape, const GlobalSums<T>& global) {
  const ::cuda::atomic_ref<unsigned, ::cuda::thread_scope_device> arrived(global.arrived[place.sequence]);
  const unsigned all = 2 * static_cast<unsigned>(shape.chunks);
  if (place.warp == 0 || place.warp == place.warps(shape) - 1) {
    __syncwarp();
    if (place.lane == 0) arrived.fetch_add(1, ::cuda::memory_order_release);
  }
  if (place.warp == 0 && place.lane == 0) {
    while (arrived.load(::cuda::memory_order_acquire) < all) __nanosleep(20);
  }
  __syncthreads();
}

/// Adds sums(0, c) to sums(count - 1, c), which stand at the same place and have no n, to to[c]: several at a time, so
/// that their exponentials do not wait for each other. kBranches: with a branch around each instead of loads of the
/// last one that count for nothing. That is slower, but takes fewer registers.
template <int kAtOnce, bool kBranches, int kWidth, typename T, typename Get>
__device__ __forceinline__ void add_sums(Sums<T> (&to)[kWidth], int count, const Get& sums) {
  using M = ScalarMath<T>;
#pragma unroll 1
  for (int first = 0; first < count; first += kAtOnce) {
    Sums<T> terms[kWidth][kAtOnce];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
#pragma unroll
      for (int c = 0; c < kWidth; ++c) {
        if constexpr (kBranches) {
          clear<M>(terms[c][i]);
          if (first + i < count) terms[c][i] = sums(first + i, c);
        } else {
          terms[c][i] = sums(first + i < count ? first + i : count - 1, c);
          if (first + i >= count) terms[c][i].key = empty_key<T>();
        }
      }
    }
#pragma unroll
    for (int c = 0; c < kWidth; ++c) {
      T largest = to[c].key;
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) largest = M::max(largest, terms[c][i].key);
      const T scale = M::exp(to[c].key - largest);
      to[c].a *= scale;
      to[c].b *= scale;
      to[c].key = largest;
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        const T weight = M::exp(terms[c][i].key - largest);
        to[c].a = M::fmadd(terms[c][i].a, weight, to[c].a);
        to[c].b = M::fmadd(terms[c][i].b, weight, to[c].b);
      }
    }
  }
}

/// Warps that gather the chunks left of the block's, the first ones; the others gather those on its right. In
/// proportion to the chunks, since the block waits for the warp that has most. There are several warps where there are
/// several chunks.
template <typename P>
__device__ __forceinline__ int left_workers(const P& place, const Shape& shape) {
  const int others = shape.chunks - 1, warps = place.warps(shape);
  const auto workers =
      static_cast<int>(shape.by_other_chunks.div(static_cast<unsigned>(place.chunk * warps + others / 2)));
  const int fewest = place.chunk > 0 ? 1 : 0, most = warps - (place.chunk < others ? 1 : 0);
  return workers < fewest ? fewest : workers > most ? most : workers;
}

/// What a warp reads of the chunks on both sides of a block's: of those on one side number `worker`, counted from the
/// block, then every further one `workers` behind.
struct GatherShare {
  int direction, worker, workers;
  int count;  ///< Chunks on that side.
  int step;   ///< From one to the next.

  template <typename P>
  __device__ __forceinline__ GatherShare(const P& place, const Shape& shape) {
    const int on_left = left_workers(place, shape);
    direction = place.warp < on_left ? 0 : 1;
    worker = direction == 0 ? place.warp : place.warp - on_left;
    workers = direction == 0 ? on_left : place.warps(shape) - on_left;
    count = direction == 0 ? place.chunk : shape.chunks - 1 - place.chunk;
    step = (direction == 0 ? -1 : 1) * static_cast<int>(shape.channels);
  }
};

/// Reads the chunks on both sides of this one. Each warp leaves what it has read, added up, in shared memory,
/// [warps][lanes] of each of the thread's channels.
template <bool kBranches, typename P, typename T>
__device__ __forceinline__ void gather_chunks(const P& place, const Shape& shape, Sums<T>* gathered,
                                              const T (&w)[P::kWidth], const GlobalSums<T>& global) {
  constexpr int kWidth = P::kWidth;
  const GatherShare share(place, shape);
  const T tokens = static_cast<T>(place.warps(shape) * P::kTokens);
  const Sums<T>* here[kWidth];
  Sums<T> sums[kWidth];
#pragma unroll
  for (int c = 0; c < kWidth; ++c) {
    here[c] = global.at(share.direction, place, shape, c);
    clear<ScalarMath<T>>(sums[c]);
  }
  add_sums<5, kBranches>(sums, (share.count - share.worker + share.workers - 1) / share.workers, [&](int i, int c) {
    const int between = i * share.workers + share.worker;  // Chunks that lie nearer.
    Sums<T> found = load_sums(here[c] + static_cast<int64_t>(between + 1) * share.step);
    found.key -= (found.n + static_cast<T>(between) * tokens) * w[c];
    found.n = T(0);
    return found;
  });
#pragma unroll
  for (int c = 0; c < kWidth; ++c)
    store_sums(gathered + (c * place.warps(shape) + place.warp) * kLanes + place.lane, sums[c]);
}

/// What comes in to channel c from the chunks left and right of this one, when all threads have gathered.
template <typename P, typename T>
__device__ __forceinline__ Sides<Sums<T>> gathered_sums(const P& place, const Shape& shape, const Sums<T>* gathered,
                                                        int c = 0) {
  const int on_left = left_workers(place, shape);
  const auto side = [&](int first, int workers) {
    const Sums<T>* shares = gathered + (c * place.warps(shape) + first) * kLanes + place.lane;
    Sums<T> sums[1];
    clear<ScalarMath<T>>(sums[0]);
    add_sums<3, true>(sums, workers, [&](int i, int) { return load_sums(shares + i * kLanes); });
    return sums[0];
  };
  return {side(0, on_left), side(on_left, place.warps(shape) - on_left)};
}

/// Keeps what comes in to the block's chunk, for the backward pass, or nothing where `kept` is null.
template <typename P, typename T>
__device__ __forceinline__ void keep_incoming(const P& place, const Shape& shape, const ChunkSums<T>& kept,
                                              const Sides<Sums<T>>& incoming) {
  if (kept.sums == nullptr || !place.inside) return;
  if (place.warp == 0) store_sums(kept.at(0, place, shape), incoming.left);
  if (place.warp == shape.warps - 1) store_sums(kept.at(1, place, shape), incoming.right);
}

/// What keep_incoming() kept of the chunk.
template <typename P, typename T>
__device__ __forceinline__ Sides<Sums<T>> kept_incoming(const P& place, const Shape& shape, const ChunkSums<T>& kept) {
  return {load_sums(kept.at(0, place, shape)), load_sums(kept.at(1, place, shape))};
}

}  // namespace vrwkv::ops::cuda
