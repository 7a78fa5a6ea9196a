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

/// Shared memory of narrow_backward_kernel.
struct NarrowBackwardPlaces {
  unsigned char *r_from, *r_to, *k_from, *k_to, *r_before, *k_before, *k_after, *v, *gy, *r, *k;
  unsigned char* states;               ///< Of keys^T values with time, as a thread has them.
  unsigned char *with_time, *against;  ///< Of receptances^T output gradients, [64 keys, 64 values]; first as `states`.
  ScoreTile scores;
  float *wholes, *self, *across;  ///< [64], of two chunks; [warps, 16]; [64].
  float* passages;

  static constexpr int kState = kStateSize * 2;
  static constexpr int kBytes =
      11 * kTile + 3 * kState + ScoreTile::kBytes + (3 * kSide + kWarps * kChunk) * 4 + kWarps * Passage::kBytes;

  __device__ explicit NarrowBackwardPlaces(unsigned char* memory)
      : r_from(memory),
        r_to(memory + kTile),
        k_from(memory + 2 * kTile),
        k_to(memory + 3 * kTile),
        r_before(memory + 4 * kTile),
        k_before(memory + 5 * kTile),
        k_after(memory + 6 * kTile),
        v(memory + 7 * kTile),
        gy(memory + 8 * kTile),
        r(memory + 9 * kTile),
        k(memory + 10 * kTile),
        states(memory + 11 * kTile),
        with_time(states + kState),
        against(states + 2 * kState),
        scores{states + 3 * kState},
        wholes(reinterpret_cast<float*>(scores.place + ScoreTile::kBytes)),
        self(wholes + 2 * kSide),
        across(self + kWarps * kChunk),
        passages(across + kSide) {}
};

/// Bytes of a block's global scratch: two states a chunk.
constexpr int64_t narrow_backward_scratch(int segment) {
  return segment / kChunk * 2 * static_cast<int64_t>(NarrowBackwardPlaces::kState);
}

}  // namespace vrwkv::ops::cuda::wkv6
