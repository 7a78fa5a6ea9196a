#pragma once

// What both passes over long sequences in float32 have for pairs of neighbouring channels of one thread: terms, frames
// and the scan of a segment.

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

/// The frames of a thread's two channels, and what a block does with them in both passes.
template <int kTokens>
struct PairFrames {
  using P = PairPlace<kTokens>;

  const Shape& shape;
  const P& place;
  PairSums* sums;  ///< The thread's own of [2][warps][lanes] sums of each segment in both directions.
  Frame of[2];

  __device__ __forceinline__ PairFrames(const Shape& shape_in, const P& place_in, char* memory, float2 w, float2 u)
      : shape(shape_in),
        place(place_in),
        sums(reinterpret_cast<PairSums*>(memory) + place.lane),
        of{{w.x, u.x, kTokens}, {w.y, u.y, kTokens}} {}

  /// Of shared memory.
  static __host__ __device__ int bytes(int warps) { return 2 * warps * kLanes * static_cast<int>(sizeof(PairSums)); }

  /// Whether all channels of the block take a frame, as all its warps find alike.
  __device__ __forceinline__ bool fit() const {
    const int block = shape.warps * kTokens;
    const bool fits = of[0].fits(block, shape.tokens) && of[1].fits(block, shape.tokens);
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
    sums[(shape.warps + place.warp) * kLanes] = right;
  }
  /// What the block has left and right of the segment, when all have put theirs.
  __device__ __forceinline__ Sides<PairSums> beside() const {
    Sides<PairSums> beside{};
#pragma unroll 2
    for (int warp = 0; warp < place.warp; ++warp) join(beside.left, sums[warp * kLanes]);
#pragma unroll 2
    for (int warp = shape.warps - 1; warp > place.warp; --warp) {
      join(beside.right, sums[(shape.warps + warp) * kLanes]);
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
      if (place.warp == shape.warps - 1) {
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
    const GatherShare share(place, shape);
    const auto tokens = static_cast<float>(shape.warps * kTokens);
    const Sums<float>* here[2];
#pragma unroll
    for (int c = 0; c < 2; ++c) here[c] = global.at(share.direction, place, shape, c);
    PairSums sum;
    float largest = 0.0f;
#pragma unroll 1
    for (int first = share.worker; first < share.count; first += kAtOnce * share.workers) {
      Sums<float> found[kAtOnce][2];
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        // Chunks that lie nearer. Behind the last one that is read again, for nothing, instead of a branch.
        const int between = min(first + i * share.workers, share.count - 1);
#pragma unroll
        for (int c = 0; c < 2; ++c) found[i][c] = load_sums(here[c] + static_cast<int64_t>(between + 1) * share.step);
      }
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        const int between = first + i * share.workers;
#pragma unroll
        for (int c = 0; c < 2; ++c) {
          const float power =
              between < share.count ? exponent(of[c], found[i][c], static_cast<float>(between) * tokens) : -INFINITY;
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
    const int on_left = left_workers(shape, place.chunk);
    const auto add = [&](PairSums& side, int first, int end, int passed) {
      PairSums sum;
#pragma unroll 1
      for (int warp = first; warp < end; ++warp) {
        const PairSums share = gathered[warp * kLanes];
#pragma unroll
        for (int c = 0; c < 2; ++c) {
          sum.of[c].a += share.of[c].a;
          sum.of[c].b += share.of[c].b;
        }
      }
#pragma unroll
      for (int c = 0; c < 2; ++c) side.of[c] = widen(side.of[c], 1.0f, of[c].power(passed * kTokens), sum.of[c]);
    };
    add(beside.left, 0, on_left, place.warp);
    add(beside.right, on_left, shape.warps, shape.warps - 1 - place.warp);
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
  /// not moderate in it, that of the largest key. k(first) and v(first) are kStep tokens in shared memory, and
  /// mark(first, left) is told the sums left of them, but for the first.
  template <int kStep, typename K, typename V, typename Mark>
  __device__ __forceinline__ void scan(PairSums& left, PairSums& right, const K& k, const V& v, const Mark& mark) {
    using Terms = PairTerms<std::decay_t<decltype(*k(0))>, kStep>;
#pragma unroll 1
    for (bool framed = false;; framed = true) {
      float passed[2] = {1.0f, 1.0f};
      left = right = PairSums{};
#pragma unroll 1
      for (int first = 0; first < kTokens; first += kStep) {
        if (first > 0) mark(first, left);
        const Terms terms(of, k(first), v(first));
        PairSums part;
#pragma unroll
        for (int i = 0; i < kStep; ++i) {
          push(left, terms, i);
          push(part, terms, kStep - 1 - i);
        }
#pragma unroll
        for (int c = 0; c < 2; ++c) {
          right.of[c] = widen(part.of[c], passed[c], 1.0f, right.of[c]);
          passed[c] *= of[c].power(kStep);
        }
      }
      put(left, right);
      bool fits[2];
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        fits[c] = framed || place.count == 0 || is_moderate(left.of[c].b, right.of[c].b);
      }
      if (__syncthreads_and(static_cast<int>(fits[0] && fits[1])) != 0) return;
      set<kStep>(fits, k);
    }
  }

 private:
  __device__ __forceinline__ void join(PairSums& state, const PairSums& segment) const {
#pragma unroll
    for (int c = 0; c < 2; ++c) of[c].join(state.of[c], segment.of[c]);
  }

  /// Sets the frames of channels whose segments do not all fit to the largest key of the block.
  template <int kStep, typename K>
  __device__ __forceinline__ void set(const bool (&fits)[2], const K& k) {
    float largest[2] = {empty_key<float>(), empty_key<float>()};
#pragma unroll 1
    for (int first = 0; first < kTokens; first += kStep) {
#pragma unroll
      for (int i = 0; i < kStep; ++i) {
        const auto key = load_chunk<2>(k(first) + i * 2 * kLanes);
#pragma unroll
        for (int c = 0; c < 2; ++c) largest[c] = fmaxf(largest[c], key[c]);
      }
    }
    auto* all = reinterpret_cast<float4*>(sums);
    all[place.warp * kLanes] = {largest[0], fits[0] ? 1.0f : 0.0f, largest[1], fits[1] ? 1.0f : 0.0f};
    __syncthreads();
    bool all_fit[2] = {true, true};
    for (int warp = 0; warp < shape.warps; ++warp) {
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
