#pragma once

#include <cuda/atomic>

#include "ops/cuda/hopper/rows.cuh"

// Kernels whose weights pass through shared memory: unit after unit, the same for every tile, in a ring that all
// warpgroups of a block read, each with 64 tokens of its own. (Where blocks share them, and a warp fetches:
// cluster_ring.cuh.)

namespace vrwkv::ops::cuda::hopper {

/// What the threads of a block share of a ring.
template <int stages>
struct RingState {
  Barrier full[stages], read[stages];
  unsigned released[stages];  ///< Warps that have read the unit, to find the last one.
};

/// `units` units of weights, over and over, `total` in all from the one of index `begin` on; on their way through
/// `memory`, numbered from 0.
template <int stages, int warps, int unit_bytes>
struct WeightRing {
  unsigned char* memory;
  const unsigned char* packed;
  int units, total;
  RingState<stages>& state;
  int begin = 0;

  /// By one thread of the block; all synchronise afterwards.
  __device__ __forceinline__ void start() const {
    for (int stage = 0; stage < stages; ++stage) {
      state.full[stage].init(1);
      state.read[stage].init(warps);
      state.released[stage] = 0;
    }
    publish_barriers();
    for (int unit = 0; unit < stages; ++unit) fetch(unit);
  }

  __device__ __forceinline__ unsigned char* place(int unit) const { return memory + unit % stages * unit_bytes; }
  /// Waits until it is there.
  __device__ __forceinline__ const unsigned char* wait(int unit) const {
    state.full[unit % stages].wait(unit / stages % 2);
    return place(unit);
  }
  /// By every warp that has read it; the last one fetches what comes next in its place. The barrier orders the reads
  /// before that: a counter that did would wait for the warp's loads from global memory, too.
  __device__ __forceinline__ void release(int unit) const {
    if (threadIdx.x % 32 != 0) return;
    Barrier& read = state.read[unit % stages];
    read.arrive();
    const ::cuda::atomic_ref<unsigned, ::cuda::thread_scope_block> released(state.released[unit % stages]);
    if (released.fetch_add(1, ::cuda::memory_order_relaxed) + 1 < warps) return;
    released.store(0, ::cuda::memory_order_relaxed);
    read.wait(unit / stages % 2);
    fetch(unit + stages);
  }

 private:
  __device__ __forceinline__ void fetch(int unit) const {
    if (unit >= total) return;
    Barrier& full = state.full[unit % stages];
    full.expect(unit_bytes);
    copy_bulk(place(unit), packed + static_cast<int64_t>((begin + unit) % units) * unit_bytes, unit_bytes, full);
  }
};

/// Rounds 8 columns of a row of weights, from `column` on, and puts them where a unit with slabs of `rows` rows has
/// them.
__device__ __forceinline__ void pack_piece(unsigned char* unit, int rows, int row, int column,
                                           const Vector<float, 4>& first, const Vector<float, 4>& second) {
  store_vector(
      reinterpret_cast<uint32_t*>(unit + column / kSlab * rows * 128 + slab_offset(row, column % kSlab)),
      Bits{rounded_pair(first.values[0], first.values[1]), rounded_pair(first.values[2], first.values[3]),
           rounded_pair(second.values[0], second.values[1]), rounded_pair(second.values[2], second.values[3])});
}

}  // namespace vrwkv::ops::cuda::hopper
