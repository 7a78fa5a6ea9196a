#pragma once

// Forward kernel of bi_wkv6 with products in bfloat16. States lie transposed: a warp has 16 values and all keys, so
// that what tokens read from them needs no sum over warps.

#include "ops/cuda/bi_wkv6_narrow_states.cuh"

namespace vrwkv::ops::cuda::wkv6 {

/// Shared memory of narrow_forward_kernel.
struct NarrowForwardPlaces {
  unsigned char *r_from, *r_to, *k_from, *k_to, *r_end, *k_end, *v;
  ScoreTile scores;
  float *wholes, *self;
  uint4* kept;  ///< What tokens read from the walk against time, as a thread has it.

  static constexpr int kFixed = 7 * kTile + ScoreTile::kBytes + (kSide + kWarps * kChunk) * 4;
  static constexpr int bytes(int segment) { return kFixed + segment * kSide * 2; }

  __device__ explicit NarrowForwardPlaces(unsigned char* memory)
      : r_from(memory),
        r_to(memory + kTile),
        k_from(memory + 2 * kTile),
        k_to(memory + 3 * kTile),
        r_end(memory + 4 * kTile),
        k_end(memory + 5 * kTile),
        v(memory + 6 * kTile),
        scores{memory + 7 * kTile},
        wholes(reinterpret_cast<float*>(memory + 7 * kTile + ScoreTile::kBytes)),
        self(wholes + kSide),
        kept(reinterpret_cast<uint4*>(self + kWarps * kChunk)) {}
};

struct NarrowForward {
  const Item& item;
  const Inputs<float, at::BFloat16>& in;
  at::BFloat16* y;
  NarrowForwardPlaces places;
  Spot spot;
  Stripe stripe;

  /// What is read of a chunk.
  struct Read {
    float w[4][2];
    Word r[4], k[4];
    Copied v;
  };
  __device__ __forceinline__ void read(Read& to, int chunk) const {
    const int count = item.count(chunk), stride = static_cast<int>(item.stride);
    const int64_t at = item.at(chunk);
    stripe.load(to.w, in.w + at, stride, count);
    stripe.load(to.r, in.r + at, stride, count);
    stripe.load(to.k, in.k + at, stride, count);
    to.v.load(in.v + at, stride, count);
  }

  template <bool kReversed>
  __device__ __forceinline__ void prepare(const Read& read, const float (&bonus)[2]) const {
    const StripeDecays decays(read.w);
    const WaysToEnds ends(decays.decay, stripe);
    read.v.store(places.v);
    ends.store_whole(places.wholes, stripe);
    stripe.store(places.r_end, read.r, kReversed ? ends.after : ends.before);
    stripe.store(places.k_end, read.k, kReversed ? ends.before : ends.after);
    if constexpr (!kReversed) {
      const WaysToMiddle middle(decays.decay, stripe);
      stripe.store(places.r_from, read.r, middle.from);
      stripe.store(places.r_to, read.r, middle.to);
      stripe.store(places.k_from, read.k, middle.from);
      stripe.store(places.k_to, read.k, middle.to);
      store_self_scores(places.self, read.r, read.k, bonus, stripe);
    }
  }

  __device__ __forceinline__ void finish(const float (&sums)[2][4], int chunk) const {
    const uint4 kept = places.kept[chunk * kThreads + threadIdx.x];
    const Word later[4]{kept.x, kept.y, kept.z, kept.w};
    const int count = item.count(chunk), stride = static_cast<int>(item.stride);
    at::BFloat16* const to = y + item.at(chunk) + 16 * spot.lane.warp + 2 * spot.lane.pair;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int token = spot.lane.row + 8 * (i % 2);
      const float* const sum = sums[i / 2] + i % 2 * 2;
      const Word word = pack(sum[0] + first_of(later[i]), sum[1] + second_of(later[i]));
      if (token < count) *reinterpret_cast<Word*>(to + token * stride + 8 * (i / 2)) = word;
    }
  }

  /// One walk; `next` is its first chunk, and then its last.
  template <bool kReversed>
  __device__ __forceinline__ void walk(Read& next, const float* entry) const {
    RowState state;
    state.load<false>(entry, spot);
    float bonus[2];
    bonus[0] = in.u[item.head * kSide + stripe.channel];
    bonus[1] = in.u[item.head * kSide + stripe.channel + 1];
    const int chunks = item.chunks();
    for (int n = 0; n < chunks; ++n) {
      const int chunk = walked<kReversed>(n, chunks);
      __syncthreads();
      prepare<kReversed>(next, bonus);
      __syncthreads();
      if (n + 1 < chunks) read(next, walked<kReversed>(n + 1, chunks));
      if constexpr (!kReversed) {
        const bool later = spot.lane.warp % 2 == 0;
        places.scores.add(later ? places.r_from : places.r_to, later ? places.k_to : places.k_from, places.self, spot);
      }
      float sums[2][4] = {};
#pragma unroll
      for (int block = 0; block < 4; ++block) {
        Word left[4], right[4];
        spot.load(left, places.r_end, block);
        state.narrow(right, block);
        add_product(sums[0], left, right[0], right[1]);
        add_product(sums[1], left, right[2], right[3]);
      }
      Word values[4];
      spot.load_turned(values, places.v, spot.lane.warp);
      state.scale_columns(places.wholes, spot);
      state.add({values[0], values[2], values[1], values[3]}, places.k_end, spot);
      if constexpr (kReversed) {
        places.kept[chunk * kThreads + threadIdx.x] = {pack(sums[0][0], sums[0][1]), pack(sums[0][2], sums[0][3]),
                                                       pack(sums[1][0], sums[1][1]), pack(sums[1][2], sums[1][3])};
      } else {
        __syncthreads();
        Word scores[4];
        places.scores.load(scores);
        add_product(sums[0], scores, values[0], values[1]);
        add_product(sums[1], scores, values[2], values[3]);
        finish(sums, chunk);
      }
    }
  }
};

/// What forward_kernel does, on bfloat16 inputs.
__global__ void __launch_bounds__(kThreads, 4)
    narrow_forward_kernel(Shape shape, Inputs<float, at::BFloat16> in, const float* states, at::BFloat16* y) {
#if __CUDA_ARCH__ >= 800
  extern __shared__ __align__(16) unsigned char raw[];
  const Item item(shape, blockIdx.x);
  const NarrowForward forward{item, in, y, NarrowForwardPlaces(raw), {}, {}};
  const auto entry = [&](int direction) {
    return states == nullptr ? nullptr : states + (item.index * 2 + direction) * kStateSize;
  };
  NarrowForward::Read next;
  forward.read(next, item.chunks() - 1);
  forward.walk<true>(next, entry(1));
  forward.walk<false>(next, entry(0));
#endif
}

}  // namespace vrwkv::ops::cuda::wkv6
