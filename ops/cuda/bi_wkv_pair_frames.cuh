#pragma once

// What both passes in float32 have for pairs of neighbouring channels of one thread: terms, frames, the exchange of
// sums between chunks, and the forward pass's scan of a segment.

#include "ops/cuda/bi_wkv_framed.cuh"
#include "ops/cuda/chunk.cuh"

namespace vrwkv::ops::cuda {

/// Sums of a thread's two channels.
struct alignas(16) PairSums {
  FramedSums of[2]{};
};

/// Exponentials e^k of kCount tokens of both channels, and e^k v.
template <typename In, int kCount>
struct PairTerms {
  float e[2][kCount], ev[2][kCount];

  /// k and v at the first token.
  __device__ __forceinline__ PairTerms(const Frame (&frames)[2], const In* k, const In* v) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const auto key = load_chunk<2>(k + i * 2 * kLanes), value = load_chunk<2>(v + i * 2 * kLanes);
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        e[c][i] = frames[c].term(key[c]);
        ev[c][i] = e[c][i] * value[c];
      }
    }
  }
};

/// The frames of a thread's two channels, and what a block does with them in both passes. P: a PairPlace.
template <typename P>
struct PairFrames {
  static constexpr int kTokens = P::kTokens, kWarps = P::kWarps, kParts = kTokens / kPart;
  static constexpr int kBytes = 2 * kWarps * kLanes * static_cast<int>(sizeof(PairSums));  ///< Of shared memory.

  const Shape& shape;
  const P& place;
  PairSums* sums;  ///< The thread's own of [2][warps][lanes] sums of each segment in both directions.
  Frame of[2];

  __device__ __forceinline__ PairFrames(const Shape& shape_in, const P& place_in, char* memory, float2 w, float2 u)
      : shape(shape_in),
        place(place_in),
        sums(reinterpret_cast<PairSums*>(memory) + place.lane),
        of{{w.x, u.x, kTokens}, {w.y, u.y, kTokens}} {}

  /// Whether all channels of the block take a frame, as all its warps find alike.
  __device__ __forceinline__ bool fit() const {
    constexpr int kBlock = kWarps * kTokens;
    const bool fits = of[0].fits(kBlock, shape.tokens) && of[1].fits(kBlock, shape.tokens);
    return __all_sync(0xffffffffU, fits) != 0;
  }

  template <typename In, int kCount>
  __device__ __forceinline__ void push(PairSums& state, const PairTerms<In, kCount>& terms, int i) const {
#pragma unroll
    for (int c = 0; c < 2; ++c) of[c].push(state.of[c], terms.ev[c][i], terms.e[c][i]);
  }

  /// Puts the segment's sums where all warps see them.
  __device__ __forceinline__ void put(const PairSums& left, const PairSums& right) const {
    sums[place.warp * kLanes] = left;
    sums[(kWarps + place.warp) * kLanes] = right;
  }
  /// What the block has left and right of the segment, when all have put theirs.
  __device__ __forceinline__ Sides<PairSums> beside() const {
    Sides<PairSums> beside{};
#pragma unroll
    for (int warp = 0; warp < kWarps - 1; ++warp) {
      if (warp < place.warp) join(beside.left, sums[warp * kLanes]);
    }
#pragma unroll
    for (int warp = kWarps - 1; warp > 0; --warp) {
      if (warp > place.warp) join(beside.right, sums[(kWarps + warp) * kLanes]);
    }
    return beside;
  }

  /// Leaves the chunk's sums for others: `left` and `right` are the segment's, `beside` those left and right of it;
  /// `form` is that in which chunks exchange those of a frame.
  template <typename Form>
  __device__ __forceinline__ void leave(const PairSums& left, const PairSums& right, const Sides<PairSums>& beside,
                                        const GlobalSums<float>& global, const Form& form) const {
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      if (!place.inside(shape, c)) continue;
      FramedSums state = beside.left.of[c];
      if (place.warp == kWarps - 1) {
        of[c].join(state, left.of[c]);
        store_sums(global.at(0, place, shape, c), form(of[c], state));
      }
      if (place.warp == 0) {
        state = beside.right.of[c];
        of[c].join(state, right.of[c]);
        store_sums(global.at(1, place, shape, c), form(of[c], state));
      }
    }
  }

  /// Reads the chunks on both sides of this one, whose sums are multiplied by 2^exponent(frame, sums, tokens between).
  /// Each warp leaves what it has read, added up, at its place among `gathered`, [warps] sums of the thread. False
  /// where an exponent is large.
  template <typename Exponent>
  __device__ __forceinline__ bool gather(PairSums* gathered, const GlobalSums<float>& global,
                                         const Exponent& exponent) const {
    constexpr int kAtOnce = 3;
    constexpr auto kTokensOfChunk = static_cast<float>(kWarps * kTokens);
    const GatherShare share(place, shape);
    const auto* here = reinterpret_cast<const char*>(global.at(share.direction, place, shape, 0));
    const int step = share.step * static_cast<int>(sizeof(Sums<float>));
    const unsigned second = place.channel(shape, 1) - place.channel(shape, 0);  // 0 where both are the last one.
    PairSums sum;
    float largest = 0.0f;
#pragma unroll 1
    for (int first = share.worker; first < share.count; first += kAtOnce * share.workers) {
      Sums<float> found[kAtOnce][2];
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        // Chunks that lie nearer. Behind the last one that is read again, for nothing, instead of a branch.
        const int between = min(first + i * share.workers, share.count - 1);
        const auto* there = reinterpret_cast<const Sums<float>*>(here + static_cast<int64_t>(between + 1) * step);
        found[i][0] = load_sums(there);
        found[i][1] = load_sums(there + second);
      }
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        const int between = first + i * share.workers;
#pragma unroll
        for (int c = 0; c < 2; ++c) {
          const float power = between < share.count
                                  ? exponent(of[c], found[i][c], static_cast<float>(between) * kTokensOfChunk)
                                  : -INFINITY;
          const float scale = fast_exp2(power);
          largest = fmaxf(largest, power);
          sum.of[c].a = fmaf(found[i][c].a, scale, sum.of[c].a);
          sum.of[c].b = fmaf(found[i][c].b, scale, sum.of[c].b);
        }
      }
    }
    gathered[place.warp * kLanes] = sum;
    return largest <= kModerate;
  }

  /// Adds to `beside` what all warps have gathered.
  __device__ __forceinline__ void enter_gathered(Sides<PairSums>& beside, const PairSums* gathered) const {
    const int on_left = left_workers(place, shape);
    Sides<PairSums> incoming{};
#pragma unroll
    for (int warp = 0; warp < kWarps; ++warp) {
      const PairSums share = gathered[warp * kLanes];
      const auto add = [&](PairSums& side) {
#pragma unroll
        for (int c = 0; c < 2; ++c) {
          side.of[c].a += share.of[c].a;
          side.of[c].b += share.of[c].b;
        }
      };
      if (warp < on_left) {
        add(incoming.left);
      } else {
        add(incoming.right);
      }
    }
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      beside.left.of[c] = widen(beside.left.of[c], 1.0f, of[c].power(place.warp * kTokens), incoming.left.of[c]);
      beside.right.of[c] =
          widen(beside.right.of[c], 1.0f, of[c].power((kWarps - 1 - place.warp) * kTokens), incoming.right.of[c]);
    }
  }

  /// Adds what comes in to channel c from other chunks, which may raise the frame, to what stands beside the segment;
  /// gives what the segment's own sums have to be multiplied by.
  __device__ __forceinline__ float enter(Sides<PairSums>& beside, const Sides<Sums<float>>& incoming, int c) {
    SegmentSides segment{{beside.left.of[c], beside.right.of[c]}};
    widen_segment(segment, of[c], place, shape, incoming);
    beside.left.of[c] = segment.sides.left;
    beside.right.of[c] = segment.sides.right;
    return segment.rescale;
  }

  /// The segment's sums in both directions, which shared memory then has for all warps. In the frame 1 or, if they are
  /// not moderate in it, that of the largest key. k(part) and v(part) are a part's tokens in shared memory, and
  /// mark(part, left) is told the sums left of each but the first.
  template <typename K, typename V, typename Mark>
  __device__ __forceinline__ void scan(PairSums& left, PairSums& right, const K& k, const V& v, const Mark& mark) {
    using Terms = PairTerms<std::decay_t<decltype(*k(0))>, kPart>;
#pragma unroll 1
    for (bool framed = false;; framed = true) {
      float passed[2] = {1.0f, 1.0f};
      left = right = PairSums{};
#pragma unroll  // Else what is marked would be shifted.
      for (int part = 0; part < kParts; ++part) {
        if (part > 0) mark(part, left);
        const Terms terms(of, k(part), v(part));
        PairSums of_part;
#pragma unroll
        for (int i = 0; i < kPart; ++i) {
          push(left, terms, i);
          push(of_part, terms, kPart - 1 - i);
        }
#pragma unroll
        for (int c = 0; c < 2; ++c) {
          right.of[c] = widen(of_part.of[c], passed[c], 1.0f, right.of[c]);
          passed[c] *= of[c].power(kPart);
        }
      }
      put(left, right);
      bool fits[2];
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        fits[c] = framed || place.count == 0 || is_moderate(left.of[c].b, right.of[c].b);
      }
      if (__syncthreads_and(static_cast<int>(fits[0] && fits[1])) != 0) return;
      set(fits, k);
    }
  }

 private:
  __device__ __forceinline__ void join(PairSums& state, const PairSums& segment) const {
#pragma unroll
    for (int c = 0; c < 2; ++c) of[c].join(state.of[c], segment.of[c]);
  }

  /// Sets the frames of channels whose segments do not all fit to the largest key of the block.
  template <typename K>
  __device__ __forceinline__ void set(const bool (&fits)[2], const K& k) {
    float largest[2] = {empty_key<float>(), empty_key<float>()};
#pragma unroll 1
    for (int part = 0; part < kParts; ++part) {
#pragma unroll
      for (int i = 0; i < kPart; ++i) {
        const auto key = load_chunk<2>(k(part) + i * 2 * kLanes);
#pragma unroll
        for (int c = 0; c < 2; ++c) largest[c] = fmaxf(largest[c], key[c]);
      }
    }
    auto* all = reinterpret_cast<float4*>(sums);
    all[place.warp * kLanes] = {largest[0], fits[0] ? 1.0f : 0.0f, largest[1], fits[1] ? 1.0f : 0.0f};
    __syncthreads();
    bool all_fit[2] = {true, true};
    for (int warp = 0; warp < kWarps; ++warp) {
      const float4 of_warp = all[warp * kLanes];
      largest[0] = fmaxf(largest[0], of_warp.x);
      largest[1] = fmaxf(largest[1], of_warp.z);
      all_fit[0] = all_fit[0] && of_warp.y != 0.0f;
      all_fit[1] = all_fit[1] && of_warp.w != 0.0f;
    }
    __syncthreads();
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      if (!all_fit[c]) of[c].set(largest[c]);
    }
  }
};

}  // namespace vrwkv::ops::cuda
