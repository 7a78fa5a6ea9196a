#pragma once

#include "ops/cuda/dependent_launch.cuh"
#include "ops/cuda/hopper/residual_rows.cuh"
#include "ops/cuda/hopper/tile_rows.cuh"
#include "ops/cuda/hopper/weight_map.cuh"

namespace vrwkv::ops::cuda::hopper {

// Blocks of two kinds: those of even number make all of the first result and the first half of the second one's
// channels, the others the second half and all of the third. So a block's weights stay in shared memory, and there is
// room for two tiles of 64 tokens. Three warpgroups mix, each a slab of channels, whose factors stay in registers; two
// multiply and store, a tile each in turn.

constexpr int kShiftLinears = 3;
constexpr int kShiftKinds = 2;   ///< Of blocks.
constexpr int kBlockHalves = 3;  ///< Of results: one of the second one, two of the block's own.
constexpr int kHalf = kChannels / 2, kHalfSpans = kSpans / 2;
constexpr int kMixers = kTileSlabs * kWarpgroup, kShiftTiles = 2;  ///< Tiles at once: a multiplying warpgroup for each.
constexpr int kShiftThreads = kMixers + kShiftTiles * kWarpgroup;
constexpr int kMixRegisters = 104, kMultiplyRegisters = 80;
constexpr int kHalfSlabBytes = kHalf * 128, kHalfBytes = kTileSlabs * kHalfSlabBytes;
constexpr int kMixedSlabBytes = kRows * 128;
constexpr int kMixedBytes = kBlockMixes * kTileSlabs * kMixedSlabBytes;
constexpr int kShiftLinearShared = kBlockHalves * kHalfBytes + kShiftTiles * kMixedBytes + kSlabAlign;

struct ShiftLinear {
  ShiftedTokens from;
  const float* mixes[kShiftLinears];
  CUtensorMap weights[kShiftLinears];  ///< map_of_weight(), of kHalfSpans.
  __nv_bfloat16* out[kShiftLinears];
};

/// What a block does.
struct ShiftWork {
  int kind, begin, step, tiles;

  /// `count` of no more than 31 bits.
  __device__ __forceinline__ explicit ShiftWork(int64_t count)
      : kind(static_cast<int>(blockIdx.x % kShiftKinds)),
        begin(static_cast<int>(blockIdx.x / kShiftKinds * kRows)),
        step(static_cast<int>(gridDim.x / kShiftKinds * kRows)) {
    tiles = static_cast<int>((static_cast<unsigned>(count) - begin + step - 1) / step);
  }

  /// The first token of a tile.
  __device__ __forceinline__ int64_t first(int number) const { return begin + static_cast<int64_t>(number) * step; }
  /// Which result mix number i is for: the one that both kinds make, or the block's own.
  __device__ __forceinline__ int result(int i) const { return i == 0 ? 1 : kind * (kShiftLinears - 1); }
  /// Half number i of a result is made with this mix, and is its first or second one.
  static __device__ __forceinline__ int mix(int i) { return i == 0 ? 0 : 1; }
  __device__ __forceinline__ int part(int i) const { return i == 0 ? kind : i - 1; }
};

/// The mixes of a tile, and their passing from the warps that mix to those that multiply.
struct MixedTile {
  unsigned char* memory;
  Barrier& there;  ///< The mixing warps arrive.
  Barrier& read;   ///< The multiplying warps arrive.

  /// In the order of slab_offset().
  __device__ __forceinline__ unsigned char* slab(int mix, int slab) const {
    return memory + (mix * kTileSlabs + slab) * kMixedSlabBytes;
  }
  /// By all lanes of a warp.
  static __device__ __forceinline__ void arrive(Barrier& barrier) {
    __syncwarp();
    if (threadIdx.x % 32 == 0) barrier.arrive();
  }
};

/// What a mixing thread knows of its channels, which are the same of all tokens.
struct VectorFactors {
  float weight[kVector], bias[kVector], mix[kBlockMixes][kVector];

  __device__ __forceinline__ VectorFactors(const ShiftLinear& from, const ShiftWork& work, int channel) {
    load_parameter(weight, from.from.weight, channel, 1.0F);
    load_parameter(bias, from.from.bias, channel, 0.0F);
#pragma unroll
    for (int i = 0; i < kBlockMixes; ++i) load_parameter(mix[i], from.mixes[work.result(i)], channel, 0.0F);
  }
};

/// A mixing thread's way through its tokens, of which it has a vector each: TileRows::kEach of a tile, then those of
/// the block's next one. All its channels come from the same side.
class TokenReader {
 public:
  __device__ __forceinline__ TokenReader(const ShiftedTokens& from, const ShiftWork& work, int slab)
      : token_(static_cast<unsigned>(work.begin + TileRows::row())),
        count_(static_cast<unsigned>(from.count)),
        step_(static_cast<unsigned>(work.step - kBehind)) {
    const int group = tile_group(slab);
    const bool beside = group < 2, before = group % 2 == 0;
    const auto width = static_cast<unsigned>(from.width);
    const unsigned next = beside ? 1 : width;
    period_ = beside ? width : width * static_cast<unsigned>(from.height);
    first_ = before ? next : 0;
    having_ = period_ - next;
    place_ = token_ % period_;
    row_ = TileRows::kRowsAtOnce % period_;
    tile_ = step_ % period_;
    distance_ = neighbour_distance(group, from.width) * kChannels;
    at_ = from.tokens + static_cast<int64_t>(token_) * kChannels + tile_vector(slab) * kVector;
  }

  /// The next one and its neighbour, if there is one. The loads are under way when this returns.
  __device__ __forceinline__ void next(Bits& own, Bits& other, bool& shifts, bool last_of_tile) {
    shifts = place_ - first_ < having_;
    if (token_ < count_) {
      own = load_vector<kVector / 2>(reinterpret_cast<const uint32_t*>(at_));
      other = load_vector<kVector / 2>(reinterpret_cast<const uint32_t*>(at_ + (shifts ? distance_ : 0)));
    }
    place_ += last_of_tile ? tile_ : row_;
    if (place_ >= period_) place_ -= period_;
    const unsigned tokens = last_of_tile ? step_ : TileRows::kRowsAtOnce;
    token_ += tokens;
    at_ += tokens * static_cast<int64_t>(kChannels);
  }

 private:
  static constexpr int kBehind = (TileRows::kEach - 1) * TileRows::kRowsAtOnce;
  unsigned token_, count_;
  unsigned step_;            ///< From a tile's last token to the next one's first.
  unsigned period_;          ///< Of the places, in a line or in a grid.
  unsigned place_;           ///< The token's.
  unsigned first_, having_;  ///< The first place with a neighbour, and how many have one.
  unsigned row_, tile_;      ///< Places from a token to the next one.
  int distance_;             ///< To the neighbour.
  const __nv_bfloat16* at_;
};

/// A token's mixes.
__device__ __forceinline__ void mix_vector(Bits (&mixed)[kBlockMixes], const VectorFactors& factors, const Bits& own,
                                           const Bits& other, bool shifts) {
#pragma unroll
  for (int pair = 0; pair < kVector / 2; ++pair) {
    const float* const of_mixes[]{factors.mix[0] + 2 * pair, factors.mix[1] + 2 * pair};
    uint32_t pairs[kBlockMixes];
    mix_pair(pairs, own.values[pair], other.values[pair], shifts, factors.weight + 2 * pair, factors.bias + 2 * pair,
             of_mixes);
#pragma unroll
    for (int j = 0; j < kBlockMixes; ++j) mixed[j].values[pair] = pairs[j];
  }
}

/// By the mixing warpgroup of slab `slab`.
template <typename Tile>
__device__ __forceinline__ void mix_tokens(const ShiftLinear& arguments, const ShiftWork& work, int slab,
                                           const Tile& tile) {
  constexpr int kEach = TileRows::kEach;
  TokenReader reader(arguments.from, work, slab);
  start_in_turn();
  Bits own[kEach], other[kEach];
  bool shifts[kEach];
#pragma unroll
  for (int i = 0; i < kEach; ++i) reader.next(own[i], other[i], shifts[i], i + 1 == kEach);
  const VectorFactors factors(arguments, work, tile_vector(slab) * kVector);
  const int place = slab_offset(TileRows::row(), TileRows::piece() * kVector);
#pragma unroll 1
  for (int number = 0; number < work.tiles; ++number) {
    const MixedTile to = tile(number % kShiftTiles);
    to.read.wait(number / kShiftTiles % 2 ^ 1);
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      Bits mixed[kBlockMixes];
      mix_vector(mixed, factors, own[i], other[i], shifts[i]);
      reader.next(own[i], other[i], shifts[i], i + 1 == kEach);
      __syncwarp();  // Loads do not pass it: ptxas would put them off until they are waited for.
#pragma unroll
      for (int j = 0; j < kBlockMixes; ++j) {
        unsigned char* const at = to.slab(j, slab) + place + i * TileRows::kRowsAtOnce * 128;
        store_vector(reinterpret_cast<uint32_t*>(at), mixed[j]);
      }
    }
    MixedTile::arrive(to.there);
  }
}

/// By a multiplying warpgroup, of number `group` among them: its tiles.
__device__ __forceinline__ void multiply_tokens(const ShiftLinear& arguments, const ShiftWork& work, int group,
                                                const MixedTile& tile, const unsigned char* weights) {
  int parity = 0;
#pragma unroll 1
  for (int number = group; number < work.tiles; number += kShiftTiles, parity ^= 1) {
    const int64_t token = work.first(number) + sums_row();
    tile.there.wait(parity);
    publish_writes();
#pragma unroll 1  // Else the places of all factors take registers.
    for (int half = 0; half < kBlockHalves; ++half) {
      const int mix = ShiftWork::mix(half);
      Sums<kHalf> sums;
      clear(sums);
      begin_products();
      start_product<kSteps>(sums, tile.slab(mix, 0), weights + half * kHalfBytes);
      end_products();
      wait_products<0>();
      hold(sums);
      if (half + 1 == kBlockHalves) MixedTile::arrive(tile.read);
      __nv_bfloat16* const to = arguments.out[work.result(mix)] + token * kChannels + work.part(half) * kHalf;
#pragma unroll
      for (int row = 0; row < 2; ++row) {
        if (token + 8 * row < arguments.from.count) store_row(to + 8 * row * kChannels, sums, row);
      }
    }
  }
}

/// Fetches the rows of weights for the block's halves of results.
__device__ __forceinline__ void fetch_weights(const ShiftLinear& arguments, const ShiftWork& work, unsigned char* to,
                                              Barrier& there) {
  there.expect(kBlockHalves * kHalfBytes);
#pragma unroll
  for (int half = 0; half < kBlockHalves; ++half) {
#pragma unroll
    for (int slab = 0; slab < kTileSlabs; ++slab) {
      copy_weight_slab(to + half * kHalfBytes + slab * kHalfSlabBytes,
                       arguments.weights[work.result(ShiftWork::mix(half))], slab, work.part(half) * kHalfSpans, there);
    }
  }
}

/// out_j = (n m_j + shift(n) (1 - m_j)) W_j^T
__global__ void __launch_bounds__(kShiftThreads, 1) shift_linear_kernel(const __grid_constant__ ShiftLinear arguments) {
  __shared__ Barrier weights_there, mixed_there[kShiftTiles], mixed_read[kShiftTiles];
  unsigned char* const weights = aligned_shared();
  const auto tile = [&](int i) {
    return MixedTile{weights + kBlockHalves * kHalfBytes + i * kMixedBytes, mixed_there[i], mixed_read[i]};
  };
  const ShiftWork work(arguments.from.count);
  const int group = warpgroup();
  if (threadIdx.x == 0) {
    weights_there.init(1);
    for (Barrier& barrier : mixed_there) barrier.init(kMixers / 32);
    for (Barrier& barrier : mixed_read) barrier.init(kWarpgroup / 32);
    publish_barriers();
  }
  __syncthreads();
  if (group >= kTileSlabs) {
    give_registers<kMultiplyRegisters>();
    start_in_turn();
    if (threadIdx.x == kMixers) fetch_weights(arguments, work, weights, weights_there);
    weights_there.wait(0);
    multiply_tokens(arguments, work, group - kTileSlabs, tile(group - kTileSlabs), weights);
  } else {
    take_registers<kMixRegisters>();
    mix_tokens(arguments, work, group, tile);
  }
}

}  // namespace vrwkv::ops::cuda::hopper
