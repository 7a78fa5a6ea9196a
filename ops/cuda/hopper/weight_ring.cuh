#pragma once

#include "ops/cuda/hopper/rows.cuh"

// Kernels whose weights pass through shared memory: two warpgroups compute, each for 64 tokens of a tile; one thread of
// a third fetches the weights, unit after unit, the same for every tile.

namespace vrwkv::ops::cuda::hopper {

constexpr int kWeightUnit = kChannels * kSlab * 2;  ///< Bytes of a slab of kChannels rows: the unit of packed weights.
constexpr int kSteps = kChannels / kStep;

constexpr int kConsumers = 2 * kWarpgroup;
constexpr int kRingThreads = kConsumers + kWarpgroup;
constexpr int kTileTokens = 2 * kRows;

// Registers of a thread: what the launch gives all three warpgroups, and how they share it. A warpgroup that took more
// than the others leave would wait for ever.
constexpr int kLaunchRegisters = 168, kFetchRegisters = 24, kComputeRegisters = 240;
static_assert(kConsumers * kComputeRegisters + kWarpgroup * kFetchRegisters <= kRingThreads * kLaunchRegisters);

__device__ __forceinline__ unsigned char* aligned_shared() {
  extern __shared__ unsigned char shared[];
  return shared + (kSlabAlign - shared_address(shared) % kSlabAlign) % kSlabAlign;
}

/// Shared memory of a kernel with `tiles` tiles and a ring of `stages`, with room to align it.
constexpr int ring_shared(int tiles, int stages) {
  return tiles * tile_bytes(kTileTokens) + stages * kWeightUnit + kSlabAlign;
}

/// The barriers of a ring.
template <int stages>
struct RingBarriers {
  Barrier full[stages], empty[stages];

  /// By one thread of the block; all synchronise afterwards.
  __device__ __forceinline__ void init() {
    for (int stage = 0; stage < stages; ++stage) {
      full[stage].init(1);
      empty[stage].init(kConsumers / 32);
    }
    publish_barriers();
  }
};

/// Units of weights on their way, numbered from 0 through all tiles of the block.
template <int stages>
struct WeightRing {
  unsigned char* memory;
  RingBarriers<stages>& barriers;

  __device__ __forceinline__ unsigned char* place(int unit) const { return memory + unit % stages * kWeightUnit; }
  /// Waits until it is there.
  __device__ __forceinline__ const unsigned char* wait(int unit) const {
    barriers.full[unit % stages].wait(unit / stages % 2);
    return place(unit);
  }
  /// By every warp that has read it.
  __device__ __forceinline__ void release(int unit) const {
    if (threadIdx.x % 32 == 0) barriers.empty[unit % stages].arrive();
  }
  /// By the thread that fetches, when the unit that was in its place is released.
  __device__ __forceinline__ void fetch(int unit, const unsigned char* from) const {
    if (unit >= stages) barriers.empty[unit % stages].wait((unit / stages - 1) % 2);
    barriers.full[unit % stages].expect(kWeightUnit);
    copy_bulk(place(unit), from, kWeightUnit, barriers.full[unit % stages]);
  }
};

/// Runs a block: `units` of `packed` are fetched for each of its tiles, from first = kTileTokens blockIdx.x on;
/// `ahead(first)` is called by the fetching thread before a tile, `compute(first, warpgroup)` by those that compute.
template <int stages, typename Ahead, typename Compute>
__device__ __forceinline__ void run_ring(const WeightRing<stages>& ring, const unsigned char* packed, int units,
                                         int64_t count, const Ahead& ahead, const Compute& compute) {
  if (threadIdx.x == 0) ring.barriers.init();
  __syncthreads();
  const int64_t begin = static_cast<int64_t>(blockIdx.x) * kTileTokens;
  const int64_t step = static_cast<int64_t>(gridDim.x) * kTileTokens;
  // Uniform within a warp, as the compiler must see.
  const int warpgroup = __shfl_sync(0xffffffffU, static_cast<int>(threadIdx.x) / kWarpgroup, 0);
  if (warpgroup == kConsumers / kWarpgroup) {
    give_registers<kFetchRegisters>();
    if (threadIdx.x == kConsumers) {
      int unit = 0;
      for (int64_t first = begin; first < count; first += step) {
        ahead(first);
        for (int i = 0; i < units; ++i) ring.fetch(unit++, packed + static_cast<int64_t>(i) * kWeightUnit);
      }
    }
  } else {
    take_registers<kComputeRegisters>();
    for (int64_t first = begin; first < count; first += step) compute(first, warpgroup);
  }
}

/// Asks for the rows of a tile of `bytes` each ahead of their use.
__device__ __forceinline__ void prefetch_rows(const void* tensor, int bytes, int64_t first, int64_t count, int rows) {
  const int64_t existing = count - first < rows ? count - first : rows;
  if (existing > 0)
    prefetch(static_cast<const unsigned char*>(tensor) + first * bytes, static_cast<int>(existing) * bytes);
}

}  // namespace vrwkv::ops::cuda::hopper
