#pragma once

#include "ops/cuda/dependent_launch.cuh"
#include "ops/cuda/hopper/shifted_rows.cuh"

namespace vrwkv::ops::cuda::hopper {

constexpr int kClusterBlocks = 2;  ///< Blocks that share what comes from the second cache.

/// Fetches this block's share of a unit of weights, to all blocks of the cluster.
__device__ __forceinline__ void fetch_share(unsigned char* to, const unsigned char* unit, Barrier& there) {
  constexpr int kShare = kWeightUnit / kClusterBlocks;
  const int share = rank_in_cluster() * kShare;
  copy_bulk_to_cluster(to + share, unit + share, kShare, there, (1 << kClusterBlocks) - 1);
}

/// Asks for this block's share of `units` units of weights to be brought into the second cache: blocks that wait for
/// the main memory unit after unit lose more time than it takes.
__device__ __forceinline__ void prefetch_share(const unsigned char* packed, int units) {
  constexpr int kPiece = kWeightUnit / 3;
  for (int piece = static_cast<int>(blockIdx.x); piece < 3 * units; piece += static_cast<int>(gridDim.x)) {
    prefetch(packed + static_cast<int64_t>(piece) * kPiece, kPiece);
  }
}

/// The tiles of a cluster whose blocks have `groups` warpgroups with kRows tokens each, of which the last ones may not
/// exist.
template <int groups>
struct ClusterWalk {
  static constexpr unsigned kTokens = groups * kRows;
  int begin, step, tiles;

  /// `count` of no more than 31 bits, in at most as many clusters as there are tiles.
  __device__ __forceinline__ explicit ClusterWalk(int64_t count)
      : begin(static_cast<int>(blockIdx.x * kTokens)), step(static_cast<int>(gridDim.x * kTokens)) {
    const unsigned of_cluster = (blockIdx.x - static_cast<unsigned>(rank_in_cluster())) * kTokens;
    const unsigned stride = gridDim.x * kTokens;
    tiles = static_cast<int>((static_cast<unsigned>(count) - of_cluster + stride - 1) / stride);
  }

  /// First token of a warpgroup's share of a tile.
  __device__ __forceinline__ int64_t first(int number, int group) const {
    return begin + static_cast<int64_t>(number) * step + group * kRows;
  }
};

/// Where in a ring a unit is, and in which of its turns.
template <int stages>
struct RingPlace {
  int stage = 0, parity = 0;

  __device__ __forceinline__ RingPlace next() const {
    return stage + 1 < stages ? RingPlace{stage + 1, parity} : RingPlace{0, parity ^ 1};
  }
};

/// Weights on their way through shared memory, unit after unit, the same for all blocks of a cluster: each fetches its
/// share of a unit for all of them. A warp of its own fetches; `warps` warps of every block read.
template <int stages, int warps>
struct ClusterRing {
  unsigned char* memory;
  RingBarriers<stages>& state;

  /// By one thread of the block, which publishes the barriers; the cluster synchronises afterwards.
  __device__ __forceinline__ void start() const { state.init(warps * kClusterBlocks); }

  /// Fetches all `units` units at `packed`, `times` times over, each when the one in its place has been read by all. By
  /// one thread.
  __device__ __forceinline__ void fetch(const unsigned char* packed, int units, int times) const {
    RingPlace<stages> place;
    for (int time = 0; time < times; ++time) {
      for (int unit = 0; unit < units; ++unit, place = place.next()) {
        Barrier& full = state.full[place.stage];
        state.read[place.stage].wait(place.parity ^ 1);
        full.expect(kWeightUnit);
        fetch_share(memory + place.stage * kWeightUnit, packed + static_cast<int64_t>(unit) * kWeightUnit, full);
      }
    }
  }
};

/// A warp's way through the units.
template <int stages, int warps>
struct RingReader {
  const ClusterRing<stages, warps>& ring;
  RingPlace<stages> taken, given;

  /// The next unit, waited for.
  __device__ __forceinline__ const unsigned char* take() {
    ring.state.full[taken.stage].wait(taken.parity);
    const unsigned char* const unit = ring.memory + taken.stage * kWeightUnit;
    taken = taken.next();
    return unit;
  }

  /// Gives the oldest unit taken back when no more than `running` groups of products run. By the whole warp.
  template <int running>
  __device__ __forceinline__ void give() {
    wait_products<running>();
    const int lane = static_cast<int>(threadIdx.x) % 32;
    if (lane < kClusterBlocks) ring.state.read[given.stage].arrive_at(lane);
    given = given.next();
  }
};

}  // namespace vrwkv::ops::cuda::hopper
