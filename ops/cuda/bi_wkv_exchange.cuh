#pragma once

// How the blocks of a sequence exchange the sums of their chunks in global memory.

#include "ops/cuda/bi_wkv_block.cuh"

namespace vrwkv::ops::cuda {

/// Leaves the sums of the block's chunk in both directions. `beside` is what the block has left and right of this
/// segment, `own` the segment's sums from the left and from the right.
template <typename State, typename P, typename T, typename Join, typename Leave>
__device__ __forceinline__ void leave_chunk(const P& place, const Shape& shape, const ChunkSums<T>& global,
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

/// Says that the block's sums are in global memory, by each of the outermost warps, which have left them, and waits for
/// those of all chunks of the sequence. All threads call it. (A mark in the sums themselves, with every warp waiting
/// for what it reads, saved a journey to the second cache and lost more by keeping it busy.)
template <typename P, typename T>
__device__ __forceinline__ void meet_sequence(const P& place, const Shape& shape, const GlobalSums<T>& global) {
  const ::cuda::atomic_ref<unsigned, ::cuda::thread_scope_device> arrived(global.arrived[place.sequence]);
  const unsigned all = 2 * static_cast<unsigned>(shape.chunks);
  if (place.warp == 0 || place.warp == shape.warps - 1) {
    __syncwarp();
    if (place.lane == 0) arrived.fetch_add(1, ::cuda::memory_order_release);
  }
  if (place.warp == 0 && place.lane == 0) {
    while (arrived.load(::cuda::memory_order_acquire) < all) __nanosleep(20);
  }
  __syncthreads();
}

/// Adds sums(0) to sums(count - 1), which stand at the same place and have no n, to `to`: several at a time, so that
/// their exponentials do not wait for each other.
template <int kAtOnce, typename T, typename Get>
__device__ __forceinline__ void add_sums(Sums<T>& to, int count, const Get& sums) {
  using M = ScalarMath<T>;
#pragma unroll 1
  for (int first = 0; first < count; first += kAtOnce) {
    Sums<T> terms[kAtOnce];
    T largest = to.key;
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      clear<M>(terms[i]);
      if (first + i < count) terms[i] = sums(first + i);
    }
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) largest = M::max(largest, terms[i].key);
    const T scale = M::exp(to.key - largest);
    to.a *= scale;
    to.b *= scale;
    to.key = largest;
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const T weight = M::exp(terms[i].key - largest);
      to.a = M::fmadd(terms[i].a, weight, to.a);
      to.b = M::fmadd(terms[i].b, weight, to.b);
    }
  }
}

/// Reads the chunks on both sides of this one, each side by half of the block's warps, which leave what they have read,
/// added up, in shared memory. There are several warps where there are several chunks.
template <typename P, typename T>
__device__ __forceinline__ void gather_chunks(const P& place, const Shape& shape, const SharedMemory<T>& shared, T w,
                                              const GlobalSums<T>& global) {
  const int workers = shape.warps / 2, direction = place.warp < workers ? 0 : 1;
  const int worker = place.warp - direction * workers;
  if (worker >= workers) return;
  const T tokens = static_cast<T>(shape.warps * P::kTokens);
  const int count = direction == 0 ? place.chunk : shape.chunks - 1 - place.chunk;
  const int64_t step = (direction == 0 ? -1 : 1) * shape.channels;
  const Sums<T>* here = global.at(direction, place, shape);
  Sums<T> sums;
  clear<ScalarMath<T>>(sums);
  add_sums<5>(sums, (count - worker + workers - 1) / workers, [&](int i) {
    const int between = i * workers + worker;  // Chunks that lie nearer.
    Sums<T> found = load_sums(here + (between + 1) * step);
    found.key -= (found.n + static_cast<T>(between) * tokens) * w;
    found.n = T(0);
    return found;
  });
  store_sums(shared.gathered() + (place.warp * kLanes + place.lane), sums);
}

/// What comes in from the chunks left and right of this one, when all threads have gathered.
template <typename P, typename T>
__device__ __forceinline__ Sides<Sums<T>> gathered_sums(const P& place, const Shape& shape,
                                                        const SharedMemory<T>& shared) {
  const int workers = shape.warps / 2;
  const auto side = [&](int direction) {
    const Sums<T>* shares = shared.gathered() + direction * workers * kLanes + place.lane;
    Sums<T> sums;
    clear<ScalarMath<T>>(sums);
    add_sums<3>(sums, workers, [&](int i) { return load_sums(shares + i * kLanes); });
    return sums;
  };
  return {side(0), side(1)};
}

/// What the forward pass has found to come in to the chunk.
template <typename P, typename T>
__device__ __forceinline__ Sides<Sums<T>> kept_incoming(const P& place, const Shape& shape, const ChunkSums<T>& kept) {
  return {load_sums(kept.at(0, place, shape)), load_sums(kept.at(1, place, shape))};
}

}  // namespace vrwkv::ops::cuda
