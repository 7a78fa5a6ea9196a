#pragma once

#include "ops/cuda/hopper/cluster_ring.cuh"
#include "ops/cuda/hopper/residual_rows.cuh"
#include "ops/cuda/hopper/tile_rows.cuh"

namespace vrwkv::ops::cuda::hopper {

// Warpgroups that mix tokens and warpgroups that multiply take turns, in pairs: a pair has 64 tokens after 64, of which
// the first one puts all mixes into shared memory, a slab of channels after the other, and the second one takes them
// there. Weights pass through a ring that all pairs read together.

constexpr int kShiftLinears = 3;
constexpr int kLinearPairs = 2;
constexpr int kLinearWarps = kLinearPairs * kWarpgroup / 32;  ///< That multiply.
constexpr int kLinearThreads = 2 * kLinearPairs * kWarpgroup;
constexpr int kLinearStages = 6;
constexpr int kMixRegisters = 112, kMultiplyRegisters = 144;
constexpr int kMixedSlabBytes = kRows * 128;
constexpr int kMixedBytes = kShiftLinears * kTileSlabs * kMixedSlabBytes;  ///< Of a pair.
constexpr int kShiftLinearShared = kLinearStages * kWeightUnit + kLinearPairs * kMixedBytes + kSlabAlign;
using LinearRing = ClusterRing<kLinearStages, kLinearWarps>;
using LinearReader = RingReader<kLinearStages, kLinearWarps>;

struct ShiftLinear {
  ShiftedTokens from;
  const float* mixes[kShiftLinears];
  const unsigned char* packed;  ///< kShiftLinears matrices of kUnits units.
  __nv_bfloat16* out[kShiftLinears];
};

/// Mixed tokens of a pair of warpgroups, and their passing from one to the other, slab by slab.
struct MixedTokens {
  unsigned char* memory;
  Barrier (&there)[kTileSlabs];  ///< Mixed: the mixing warps arrive.
  Barrier (&read)[kTileSlabs];   ///< Multiplied: the multiplying warps arrive.

  static __device__ __forceinline__ void init(Barrier (&barriers)[kTileSlabs]) {
    for (Barrier& barrier : barriers) barrier.init(kWarpgroup / 32);
  }
  /// A slab of mix number j, in the order of slab_offset().
  __device__ __forceinline__ unsigned char* slab(int j, int slab) const {
    return memory + (j * kTileSlabs + slab) * kMixedSlabBytes;
  }
  /// By all lanes of a warp.
  static __device__ __forceinline__ void arrive(Barrier& barrier) {
    __syncwarp();
    if (threadIdx.x % 32 == 0) barrier.arrive();
  }
};

/// What a thread of a mixing warpgroup knows of the channels that it has in a slab.
struct SlabFactors {
  Vector<float, kVector> weight, bias, mix[kShiftLinears];

  __device__ __forceinline__ SlabFactors(const MixFactors<kShiftLinears>& from, int slab) {
    const int channel = tile_vector(slab) * kVector;
    const auto load = [&](const float* factors) {
      const auto one = load_vector<4>(factors + channel), two = load_vector<4>(factors + channel + 4);
      return Vector<float, kVector>{one.values[0], one.values[1], one.values[2], one.values[3],
                                    two.values[0], two.values[1], two.values[2], two.values[3]};
    };
    weight = load(from.weight);
    bias = load(from.bias);
#pragma unroll
    for (int j = 0; j < kShiftLinears; ++j) mix[j] = load(from.mix[j]);
  }
};

/// A thread's part of a slab of 64 tokens and of their neighbours.
struct SlabTokens {
  Bits own[TileRows::kEach], other[TileRows::kEach];
  unsigned shifts = 0;  ///< A bit for each: whether there is a neighbour.

  /// Row `i` of them. The loads are under way when this returns.
  __device__ __forceinline__ void load(const ShiftedTokens& from, const TileRows& rows, int slab, int i) {
    const int group = tile_group(slab);
    const unsigned bit = 1U << i;
    const bool neighbour = (rows.edges >> (4 * i + group) & 1U) != 0;
    shifts = neighbour ? shifts | bit : shifts & ~bit;
    if (i >= rows.existing) return;
    const __nv_bfloat16* const at = rows.here + i * TileRows::kRowsAtOnce * kChannels + tile_vector(slab) * kVector;
    const int distance = (group < 2 ? 1 : from.width) * (group % 2 == 0 ? -1 : 1);
    own[i] = load_vector<kVector / 2>(reinterpret_cast<const uint32_t*>(at));
    other[i] = load_vector<kVector / 2>(reinterpret_cast<const uint32_t*>(at + (neighbour ? distance : 0) * kChannels));
  }

  /// All mixes of row `i`.
  __device__ __forceinline__ void mix(Bits (&mixed)[kShiftLinears], const SlabFactors& factors, int i) const {
#pragma unroll
    for (int pair = 0; pair < kVector / 2; ++pair) {
      const bool shift = (shifts >> i & 1U) != 0;
      const uint32_t mine = own[i].values[pair], its = other[i].values[pair];
      float beside[2], difference[2];
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        const float w = factors.weight.values[2 * pair + c], b = factors.bias.values[2 * pair + c];
        const float n = (c == 0 ? low(mine) : high(mine)) * w + b;
        const float neighbour = (c == 0 ? low(its) : high(its)) * w + b;
        beside[c] = shift ? neighbour : 0.0F;
        difference[c] = n - beside[c];
      }
#pragma unroll
      for (int j = 0; j < kShiftLinears; ++j) {
        const float* const m = factors.mix[j].values + 2 * pair;
        mixed[j].values[pair] = rounded_pair(difference[0] * m[0] + beside[0], difference[1] * m[1] + beside[1]);
      }
    }
  }
};

/// The mixing warpgroups meet.
__device__ __forceinline__ void sync_mixing_groups() {
  asm volatile("bar.sync 1, %0;" ::"n"(kLinearPairs * kWarpgroup) : "memory");
}

/// By a mixing warpgroup. All of them put the factors of the mixes into shared memory first.
__device__ __forceinline__ void mix_tokens(const ShiftLinear& arguments, const ClusterWalk<kLinearPairs>& walk,
                                           int pair, MixFactors<kShiftLinears>& all_factors, const MixedTokens& to) {
  const ShiftedTokens& from = arguments.from;
  TileRows rows(from, walk.first(0, pair));
  start_in_turn();
  const float* const mixes[kShiftLinears]{arguments.mixes[0], arguments.mixes[1], arguments.mixes[2]};
  const auto column = MixFactors<kShiftLinears>::load(from, mixes);
  SlabTokens tokens;
#pragma unroll
  for (int i = 0; i < TileRows::kEach; ++i) tokens.load(from, rows, 0, i);
  all_factors.store(column);
  sync_mixing_groups();
  const int place = slab_offset(TileRows::row(), TileRows::piece() * kVector);
#pragma unroll 1
  for (int number = 0; number < walk.tiles; ++number) {
#pragma unroll 1
    for (int slab = 0; slab < kTileSlabs; ++slab) {
      const SlabFactors factors(all_factors, slab);
      const bool last = slab + 1 == kTileSlabs;
      if (last) rows = TileRows(from, walk.first(number + 1, pair));
      to.read[slab].wait(number % 2 ^ 1);
#pragma unroll
      for (int i = 0; i < TileRows::kEach; ++i) {
        Bits mixed[kShiftLinears];
        tokens.mix(mixed, factors, i);
        tokens.load(from, rows, last ? 0 : slab + 1, i);
#pragma unroll
        for (int j = 0; j < kShiftLinears; ++j) {
          unsigned char* const at = to.slab(j, slab) + place + i * TileRows::kRowsAtOnce * 128;
          store_vector(reinterpret_cast<uint32_t*>(at), mixed[j]);
        }
      }
      publish_writes();
      MixedTokens::arrive(to.there[slab]);
    }
  }
}

/// Fetches the weights of all tiles between the products of one of the warps that read them, as no warp is left for it.
class WeightFetch {
 public:
  /// The first units at once.
  __device__ __forceinline__ WeightFetch(const LinearRing& ring, const unsigned char* packed, int tiles)
      : ring_(ring), packed_(packed), left_(tiles * kAllUnits) {
    for (int i = 0; i < kLinearStages - kBehind; ++i) next();
  }

  /// Before each unit is taken: fetches one into the place of that which lies kBehind units before it, and which this
  /// warp has given back.
  __device__ __forceinline__ void next() {
    if (left_ == 0) return;
    --left_;
    ring_.fetch_unit(packed_, unit_, place_);
    place_ = place_.next();
    unit_ = unit_ + 1 < kAllUnits ? unit_ + 1 : 0;
  }

 private:
  static constexpr int kBehind = 2, kAllUnits = kShiftLinears * kUnits;
  const LinearRing& ring_;
  const unsigned char* packed_;
  int left_, unit_ = 0;
  RingPlace<kLinearStages> place_;
};

/// By a multiplying warpgroup.
__device__ __forceinline__ void multiply_tokens(const ShiftLinear& arguments, const ClusterWalk<kLinearPairs>& walk,
                                                int pair, const MixedTokens& mixed, const LinearRing& ring) {
  LinearReader weights{ring, {}, {}};
  const bool fetches = threadIdx.x == kLinearPairs * kWarpgroup;
  WeightFetch fetch(ring, arguments.packed, fetches ? walk.tiles : 0);
#pragma unroll 1
  for (int number = 0; number < walk.tiles; ++number) {
    const int64_t token = walk.first(number, pair) + sums_row();
#pragma unroll 1
    for (int j = 0; j < kShiftLinears; ++j) {
      const bool last = j + 1 == kShiftLinears;
      RowSums sums;
      clear(sums);
#pragma unroll
      for (int unit = 0; unit < kUnits; ++unit) {
        const int slab = unit / 2;
        if (unit % 2 == 0 && j == 0) mixed.there[slab].wait(number % 2);
        fetch.next();
        const unsigned char* const weight = weights.take();
        begin_products();
#pragma unroll
        for (int k = 0; k < 2; ++k) {
          multiply(sums, factor(mixed.slab(j, slab), unit % 2 * 2 + k), narrow_factor(weight, k), unit > 0 || k > 0);
        }
        end_products();
        if (unit == 0) continue;
        weights.give<1>();
        if (unit % 2 == 0 && last) MixedTokens::arrive(mixed.read[slab - 1]);
      }
      weights.give<0>();
      if (last) MixedTokens::arrive(mixed.read[kTileSlabs - 1]);
      hold(sums);
      __nv_bfloat16* const to = arguments.out[j] + token * kChannels;
#pragma unroll
      for (int row = 0; row < 2; ++row) {
        if (token + 8 * row < arguments.from.count) store_row(to + 8 * row * kChannels, sums, row);
      }
    }
  }
}

/// out_j = (n m_j + shift(n) (1 - m_j)) W_j^T
__global__ void __cluster_dims__(kClusterBlocks) __launch_bounds__(kLinearThreads, 1)
    shift_linear_kernel(const __grid_constant__ ShiftLinear arguments) {
  __shared__ RingBarriers<kLinearStages> state;
  __shared__ Barrier mixed_there[kLinearPairs][kTileSlabs], mixed_read[kLinearPairs][kTileSlabs];
  __shared__ alignas(16) MixFactors<kShiftLinears> factors;
  unsigned char* const shared = aligned_shared();
  const ClusterWalk<kLinearPairs> walk(arguments.from.count);
  const LinearRing ring{shared, state};
  const int group = warpgroup(), pair = group % kLinearPairs;
  const MixedTokens mixed{shared + kLinearStages * kWeightUnit + pair * kMixedBytes, mixed_there[pair],
                          mixed_read[pair]};
  if (threadIdx.x == 0) {
    prefetch_share(arguments.packed, kShiftLinears * kUnits);
    ring.start();
    for (int i = 0; i < kLinearPairs; ++i) {
      MixedTokens::init(mixed_there[i]);
      MixedTokens::init(mixed_read[i]);
    }
    publish_barriers();
  }
  meet_cluster();
  if (group >= kLinearPairs) {
    take_registers<kMultiplyRegisters>();
    start_in_turn();
    multiply_tokens(arguments, walk, pair, mixed, ring);
  } else {
    give_registers<kMixRegisters>();
    mix_tokens(arguments, walk, pair, factors, mixed);
  }
  __syncwarp();
  sync_cluster();  // Neither block ends before copies and arrivals from the other one have come.
}

}  // namespace vrwkv::ops::cuda::hopper
