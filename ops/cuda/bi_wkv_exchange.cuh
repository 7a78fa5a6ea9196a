#pragma once

// How the blocks of a sequence exchange the sums of their chunks in global memory.

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
    global.at(0, place, shape) = leave(state);
  }
  if (place.warp == 0) {
    State state = beside.right;
    join(state, own.right);
    global.at(1, place, shape) = leave(state);
  }
}

/// Says that the block's sums are in global memory, and waits for those of all chunks of the sequence. All threads call
/// it. (A mark in the sums themselves, with every warp waiting for what it reads, saved a journey to the second cache
/// and lost more by keeping it busy.)
template <typename P, typename T>
__device__ __forceinline__ void meet_sequence(const P& place, const Shape& shape, const GlobalSums<T>& global) {
  __syncthreads();
  if (threadIdx.x == 0 && threadIdx.y == 0) {
    const ::cuda::atomic_ref<unsigned, ::cuda::thread_scope_device> arrived(global.arrived[place.sequence]);
    arrived.fetch_add(1, ::cuda::memory_order_release);
    while (arrived.load(::cuda::memory_order_acquire) < static_cast<unsigned>(shape.chunks)) __nanosleep(20);
  }
  __syncthreads();
}

/// Reads the chunks on both sides of this one, each side by half of the block's warps, which leave what they have read,
/// joined, in shared memory. There are several warps where there are several chunks.
template <typename P, typename T>
__device__ __forceinline__ void gather_chunks(int kind, const P& place, const Shape& shape,
                                              const SharedMemory<T>& shared, T w, const GlobalSums<T>& global) {
  using M = ScalarMath<T>;
  const int workers = shape.warps / 2, direction = place.warp < workers ? 0 : 1;
  const int worker = place.warp - direction * workers;
  if (worker >= workers) return;
  const T tokens = static_cast<T>(shape.warps * P::kTokens);
  const int count = direction == 0 ? place.chunk : shape.chunks - 1 - place.chunk;
  const int64_t step = (direction == 0 ? 1 : -1) * shape.channels;
  // From far to near.
  const Sums<T>* farthest = &global.at(direction, place, shape) - count * step;
  Sums<T> sums;
  clear<M>(sums);
#pragma unroll 4
  for (int i = worker; i < count; i += workers) {
    join<M>(sums, w, static_cast<T>(workers) * tokens, farthest[i * step]);
  }
  // From the last chunk of this share to this block.
  sums.n += static_cast<T>(count > worker ? (count - 1 - worker) % workers : 0) * tokens;
  shared.gathered(kind)[place.warp * kLanes + place.lane] = sums;
}

/// What comes in from the chunks left and right of this one, when all threads have gathered.
template <typename P, typename T>
__device__ __forceinline__ Sides<Sums<T>> gathered_sums(int kind, const P& place, const Shape& shape,
                                                        const SharedMemory<T>& shared, T w) {
  using M = ScalarMath<T>;
  const int workers = shape.warps / 2;
  const auto side = [&](int direction) {
    const Sums<T>* shares = shared.gathered(kind) + direction * workers * kLanes + place.lane;
    Sums<T> sums = shares[0];
#pragma unroll 1
    for (int i = 1; i < workers; ++i) join<M>(sums, w, T(0), shares[i * kLanes]);
    return sums;
  };
  return {side(0), side(1)};
}

}  // namespace vrwkv::ops::cuda
