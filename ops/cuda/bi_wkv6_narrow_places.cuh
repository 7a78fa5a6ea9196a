#pragma once

// Where bi_wkv6's backward kernel for bfloat16 keeps what, and how numbers pass between the two layouts of a warp's 16
// channels: of stripes, whose threads have four tokens in a row, and of products' results.

#include "ops/cuda/bi_wkv6_tiles.cuh"

namespace vrwkv::ops::cuda::wkv6 {

/// Four arrays [16 tokens, 16 channels] of float32, a warp's own, by which numbers pass between the layout of stripes
/// and that of products.
struct Passage {
  static constexpr int kStride = 20;
  static constexpr int kArray = kChunk * kStride;
  static constexpr int kBytes = 4 * kArray * 4;
  float* place;

  __device__ __forceinline__ void put(int array, const float (&from)[4][2], const Stripe& stripe) const {
#pragma unroll
    for (int i = 0; i < 4; ++i) store_vector(at(array, stripe, i), Vector<float, 2>{from[i][0], from[i][1]});
  }
  __device__ __forceinline__ void get(float (&to)[4][2], int array, const Stripe& stripe) const {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const auto read = load_vector<2>(at(array, stripe, i));
      to[i][0] = read.values[0];
      to[i][1] = read.values[1];
    }
  }
  /// Those of token row + 8 half and channels 8 eight + 2 pair + 0..1 of the warp's.
  __device__ __forceinline__ float* result(int array, int half, int eight, const Lane& lane) const {
    return place + array * kArray + (lane.row + 8 * half) * kStride + 8 * eight + 2 * lane.pair;
  }

 private:
  __device__ __forceinline__ float* at(int array, const Stripe& stripe, int i) const {
    return place + array * kArray + (4 * stripe.group + i) * kStride + 2 * stripe.column;
  }
};

/// Sums of a quantity over the tokens after each of a stripe within the chunk; and before each.
__device__ __forceinline__ void sum_after(float (&sums)[4][2], const float (&of)[4][2], const Stripe& stripe) {
#pragma unroll
  for (int c = 0; c < 2; ++c) {
    const float last = of[2][c] + of[3][c], all = of[0][c] + of[1][c] + last;
    const float beside = __shfl_xor_sync(kWholeWarp, all, 8);
    const float across = __shfl_xor_sync(kWholeWarp, all + beside, 16);
    const float end = ((stripe.group & 1) != 0 ? 0.0F : beside) + ((stripe.group & 2) != 0 ? 0.0F : across);
    sums[3][c] = end;
    sums[2][c] = end + of[3][c];
    sums[1][c] = end + last;
    sums[0][c] = sums[1][c] + of[1][c];
  }
}
__device__ __forceinline__ void sum_before(float (&sums)[4][2], const float (&of)[4][2], const Stripe& stripe) {
#pragma unroll
  for (int c = 0; c < 2; ++c) {
    const float first = of[0][c] + of[1][c], all = first + of[2][c] + of[3][c];
    const float beside = __shfl_xor_sync(kWholeWarp, all, 8);
    const float across = __shfl_xor_sync(kWholeWarp, all + beside, 16);
    const float start = ((stripe.group & 1) != 0 ? beside : 0.0F) + ((stripe.group & 2) != 0 ? across : 0.0F);
    sums[0][c] = start;
    sums[1][c] = start + of[0][c];
    sums[2][c] = start + first;
    sums[3][c] = sums[2][c] + of[2][c];
  }
}

/// Blocks of the backward kernel are two teams of kWarps warps that do the same with receptances and keys changed over.
/// The first has receptances and output gradients, and states of keys^T values; the second keys and values, and states
/// of receptances^T output gradients.
constexpr int kTeams = 2;

/// What a team prepares of a chunk: its channels by their ways from and to the middle, before and after, and as they
/// are; and the other factor of their states.
enum class Factor { kFrom, kTo, kBefore, kAfter, kPlain, kColumns, kCount };

/// Shared memory of narrow_backward_kernel.
struct NarrowBackwardPlaces {
  unsigned char* memory;

  static constexpr int kState = kStateSize * 2;
  static constexpr int kTiles = kTeams * static_cast<int>(Factor::kCount) * kTile;
  static constexpr int kKept = kTiles, kRows = kKept + kTeams * kState, kScores = kRows + kTeams * kState;
  static constexpr int kWholes = kScores + ScoreTile::kBytes, kSelf = kWholes + 2 * kSide * 4;
  static constexpr int kAcross = kSelf + kWarps * kChunk * 4, kPassages = kAcross + kTeams * kSide * 4;
  static constexpr int kBytes = kPassages + kTeams * kWarps * Passage::kBytes;

  __device__ __forceinline__ unsigned char* tile(int team, Factor factor) const {
    return memory + (team * static_cast<int>(Factor::kCount) + static_cast<int>(factor)) * kTile;
  }
  /// A team's state with time, as a thread of it has it in its registers.
  __device__ __forceinline__ unsigned char* kept(int team) const { return memory + kKept + team * kState; }
  /// States of receptances^T output gradients, with time and against it: four matrices of 16 keys and all values.
  __device__ __forceinline__ unsigned char* rows(bool against) const { return memory + kRows + (against ? kState : 0); }
  __device__ __forceinline__ ScoreTile scores() const { return {memory + kScores}; }
  /// [64] each: products of a chunk's decays, of which two chunks' find place; and each team's part of what passes over
  /// the whole chunk. Parts of the tokens' own scores, [warps, 16].
  __device__ __forceinline__ float* wholes(int of = 0) const { return floats(kWholes) + of * kSide; }
  __device__ __forceinline__ float* across(int team) const { return floats(kAcross) + team * kSide; }
  __device__ __forceinline__ float* self() const { return floats(kSelf); }
  __device__ __forceinline__ Passage passage(int team, int warp) const {
    return {floats(kPassages) + (team * kWarps + warp) * 4 * Passage::kArray};
  }

 private:
  __device__ __forceinline__ float* floats(int byte) const { return reinterpret_cast<float*>(memory + byte); }
};

/// Bytes of a block's global scratch: every chunk's states with time, one a team.
constexpr int64_t narrow_backward_scratch(int segment) {
  return segment / kChunk * kTeams * static_cast<int64_t>(NarrowBackwardPlaces::kState);
}

}  // namespace vrwkv::ops::cuda::wkv6
