#pragma once

// The two passes of bi_wkv_two_passes.cuh in float32 with one exponential a token (bi_wkv_framed.cuh), for pairs of
// neighbouring channels: a thread reads and writes both in one access, which saves a sixth of the instructions.

#include "ops/cuda/bi_wkv_framed.cuh"
#include "ops/cuda/bi_wkv_two_passes.cuh"
#include "ops/cuda/chunk.cuh"

namespace vrwkv::ops::cuda {

/// Sums of a thread's two channels.
struct alignas(16) PairSums {
  FramedSums of[2]{};
};

/// Exponentials e^k of a part of both channels, and e^k v.
template <typename In>
struct PairTerms {
  float e[2][kPart], ev[2][kPart];

  /// k and v at the part's first token.
  __device__ __forceinline__ PairTerms(const Frame (&frames)[2], const In* k, const In* v) {
#pragma unroll
    for (int i = 0; i < kPart; ++i) {
      const auto key = load_chunk<2>(k + i * 2 * kLanes), value = load_chunk<2>(v + i * 2 * kLanes);
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        e[c][i] = frames[c].term(key[c]);
        ev[c][i] = e[c][i] * value[c];
      }
    }
  }
};

/// A block's work on a chunk of 64 channels.
template <bool kGated, int kTokens, typename In>
class PairBlock {
 public:
  using P = PairPlace<kTokens>;

  /// Of shared memory.
  static int bytes(int warps) {
    const int tile = Tiles::bytes(warps, false) / 2, sums = 2 * warps * kLanes * static_cast<int>(sizeof(PairSums));
    return 2 * tile + (kGated ? std::max(tile, sums) : sums);
  }

  __device__ __forceinline__ PairBlock(const Shape& shape, const P& place, char* memory,
                                       const Inputs<float, In>& inputs)
      : shape_(shape),
        place_(place),
        inputs_(inputs),
        tiles_(memory, place, shape.warps),
        sums_(reinterpret_cast<PairSums*>(memory + Tiles::bytes(shape.warps, false)) + place.lane),
        frames_{frame(0), frame(1)} {}

  /// Starts to copy what the pass reads.
  __device__ __forceinline__ void start(bool second) const {
    const SegmentCopies<P, In> copies(place_, shape_);
    copies.template start<kRow>(tiles_.k, inputs_.k, static_cast<In>(-INFINITY));  // So a missing term vanishes.
    copies.template start<kRow>(tiles_.v, inputs_.v, static_cast<In>(0.0f));
    if constexpr (kGated) {
      if (second) copies.template start<kRow>(tiles_.r, inputs_.r, static_cast<In>(0.0f));
    }
  }

  __device__ __forceinline__ bool takes_frames() const {
    const int block = shape_.warps * kTokens;
    const bool fits = frames_[0].fits(block, shape_.tokens) && frames_[1].fits(block, shape_.tokens);
    return __all_sync(0xffffffffU, fits) != 0;
  }

  /// The first pass.
  __device__ __forceinline__ void leave_sums(const SegmentMemory& segments, const ChunkSums<float>& sums) {
    finish_loads();
    PairSums left, right;
    scan_segment(left, right);
    PairSums beside_left, beside_right;
#pragma unroll 2
    for (int warp = 0; warp < place_.warp; ++warp) join(beside_left, sums_[warp * kLanes]);
#pragma unroll 2
    for (int warp = shape_.warps - 1; warp > place_.warp; --warp) {
      join(beside_right, sums_[(shape_.warps + warp) * kLanes]);
    }
    float4* beside = segments.beside + (item() * shape_.warps + place_.warp) * 2 * kLanes + 2 * place_.lane;
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      beside[c] = {beside_left.of[c].a, beside_left.of[c].b, beside_right.of[c].a, beside_right.of[c].b};
    }
    join(beside_left, left);
    join(beside_right, right);
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      const Frame& frame = frames_[c];
      if (place_.warp == 0) {
        segments.frames[item() * 2 * kLanes + 2 * place_.lane + c] = frame.value();
        if (place_.inside(shape_, c)) store_sums(chunk(sums, 1, c), frame.leave(beside_right.of[c]));
      }
      if (place_.warp == shape_.warps - 1 && place_.inside(shape_, c)) {
        store_sums(chunk(sums, 0, c), frame.leave(beside_left.of[c]));
      }
    }
  }

  /// The second pass, which may use what others have left after wait().
  template <typename Wait>
  __device__ __forceinline__ void write_outputs(const SegmentMemory& segments, const ChunkSums<float>& incoming,
                                                const Wait& wait, In* y) {
    wait();
    PairSums left, right;
    enter(left, right, segments, incoming);
    finish_loads();

    PairMarks marks;
#pragma unroll 1
    for (int first = 0; first < kTokens - kPart; first += kPart) {
      marks.leave(left);
      const PairTerms<In> terms(frames_, tiles_.k + first * kRow, tiles_.v + first * kRow);
#pragma unroll
      for (int i = 0; i < kPart; ++i) push(left, terms, i);
    }
    marks.leave(left);

#pragma unroll 1
    for (int first = kTokens - kPart; first >= 0; first -= kPart) {
      const PairTerms<In> terms(frames_, tiles_.k + first * kRow, tiles_.v + first * kRow);
      PairSums with_own[kPart];
      left = marks.take();
#pragma unroll
      for (int i = 0; i < kPart; ++i) {
#pragma unroll
        for (int c = 0; c < 2; ++c) {
          with_own[i].of[c] = {fmaf(frames_[c].bonus, terms.ev[c][i], left.of[c].a),
                               fmaf(frames_[c].bonus, terms.e[c][i], left.of[c].b)};
        }
        push(left, terms, i);
      }
#pragma unroll
      for (int i = kPart - 1; i >= 0; --i) {
        const int token = (first + i) * kRow;
        Chunk<In, 2> gate;
        if constexpr (kGated) gate = load_chunk<2>(tiles_.r + token);
        float out[2];
#pragma unroll
        for (int c = 0; c < 2; ++c) {
          const FramedSums& own = with_own[i].of[c];
          float below = own.b + right.of[c].b;
          // Times 1 / (1 + e^{-r}), in one division.
          if constexpr (kGated) below = fmaf(below, fast_exp(-gate[c]), below);
          out[c] = (own.a + right.of[c].a) * fast_reciprocal(below);
        }
        store_chunk<2>(tiles_.k + token, out);  // Read already.
        push(right, terms, i);
      }
    }
    SegmentCopies<P, In>(place_, shape_).write(tiles_.k, y, shape_.channels);
  }

 private:
  using Tiles = ForwardTiles<In, kTokens, 2>;
  static constexpr int kRow = 2 * kLanes;

  /// Sums left of the parts, taken last first (see Marks).
  class PairMarks {
   public:
    __device__ __forceinline__ void leave(const PairSums& sums) {
#pragma unroll
      for (int i = 0; i < kCount - 1; ++i) marks_[i] = marks_[i + 1];
      marks_[kCount - 1] = sums;
    }
    __device__ __forceinline__ PairSums take() {
      const PairSums last = marks_[kCount - 1];
#pragma unroll
      for (int i = kCount - 1; i > 0; --i) marks_[i] = marks_[i - 1];
      return last;
    }

   private:
    static constexpr int kCount = kTokens / kPart;
    PairSums marks_[kCount];
  };

  __device__ __forceinline__ Frame frame(int c) const {
    const int64_t channel = place_.channel(shape_, c);
    return {inputs_.w[channel], inputs_.u[channel], kTokens};
  }
  /// Number of the chunk.
  __device__ __forceinline__ int64_t item() const {
    const int64_t groups = (shape_.channels + kRow - 1) / kRow;
    return (place_.b * groups + place_.group_channel / kRow) * shape_.chunks + place_.chunk;
  }
  __device__ __forceinline__ Sums<float>* chunk(const ChunkSums<float>& sums, int direction, int c) const {
    return sums.sums + (direction * shape_.batch * shape_.chunks * shape_.channels + place_.chunk_index(shape_, c));
  }

  __device__ __forceinline__ void push(PairSums& state, const PairTerms<In>& terms, int i) const {
#pragma unroll
    for (int c = 0; c < 2; ++c) frames_[c].push(state.of[c], terms.ev[c][i], terms.e[c][i]);
  }
  __device__ __forceinline__ void join(PairSums& state, const PairSums& segment) const {
#pragma unroll
    for (int c = 0; c < 2; ++c) frames_[c].join(state.of[c], segment.of[c]);
  }

  /// The segment's sums in both directions, which shared memory then has for all warps. In the frame 1 or, if they are
  /// not moderate in it, that of the largest key.
  __device__ __forceinline__ void scan_segment(PairSums& left, PairSums& right) {
#pragma unroll 1
    for (bool framed = false;; framed = true) {
      float passed[2] = {1.0f, 1.0f};
      left = right = PairSums{};
#pragma unroll 1
      for (int first = 0; first < kTokens; first += kPart) {
        const PairTerms<In> terms(frames_, tiles_.k + first * kRow, tiles_.v + first * kRow);
        PairSums part;
#pragma unroll
        for (int i = 0; i < kPart; ++i) {
          push(left, terms, i);
          push(part, terms, kPart - 1 - i);
        }
#pragma unroll
        for (int c = 0; c < 2; ++c) {
          right.of[c] = widen(part.of[c], passed[c], 1.0f, right.of[c]);
          passed[c] *= frames_[c].power(kPart);
        }
      }
      sums_[place_.warp * kLanes] = left;
      sums_[(shape_.warps + place_.warp) * kLanes] = right;
      bool fits[2];
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        fits[c] = framed || place_.count == 0 || is_moderate(left.of[c].b, right.of[c].b);
      }
      if (__syncthreads_and(static_cast<int>(fits[0] && fits[1])) != 0) return;
      set_frames(fits);
    }
  }

  /// Sets the frames of channels whose segments do not all fit to the largest key of the block.
  __device__ __forceinline__ void set_frames(const bool (&fits)[2]) {
    float largest[2] = {empty_key<float>(), empty_key<float>()};
#pragma unroll kPart
    for (int i = 0; i < kTokens; ++i) {
      const auto key = load_chunk<2>(tiles_.k + i * kRow);
#pragma unroll
      for (int c = 0; c < 2; ++c) largest[c] = fmaxf(largest[c], key[c]);
    }
    auto* all = reinterpret_cast<float4*>(sums_);
    all[place_.warp * kLanes] = {largest[0], fits[0] ? 1.0f : 0.0f, largest[1], fits[1] ? 1.0f : 0.0f};
    __syncthreads();
    bool all_fit[2] = {true, true};
    for (int warp = 0; warp < shape_.warps; ++warp) {
      const float4 of = all[warp * kLanes];
      largest[0] = fmaxf(largest[0], of.x);
      largest[1] = fmaxf(largest[1], of.z);
      all_fit[0] = all_fit[0] && of.y != 0.0f;
      all_fit[1] = all_fit[1] && of.w != 0.0f;
    }
    __syncthreads();
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      if (!all_fit[c]) frames_[c].set(largest[c]);
    }
  }

  /// What stands left and right of the segment: the chunk's share, which the first pass has left, and what comes in.
  __device__ __forceinline__ void enter(PairSums& left, PairSums& right, const SegmentMemory& segments,
                                        const ChunkSums<float>& incoming) {
    const float4* beside = segments.beside + (item() * shape_.warps + place_.warp) * 2 * kLanes + 2 * place_.lane;
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      Frame& frame = frames_[c];
      const float old_frame = segments.frames[item() * 2 * kLanes + 2 * place_.lane + c];
      const float4 share = beside[c];
      const Sides<Sums<float>> outside{load_sums(chunk(incoming, 0, c)), load_sums(chunk(incoming, 1, c))};
      frame.restore(old_frame);
      frame.raise(outside);
      const float rescale = fast_exp2(old_frame - frame.value());
      const Sides<FramedSums> sides = frame.enter(outside);
      left.of[c] = widen({share.x, share.y}, rescale, frame.power(place_.warp * kTokens), sides.left);
      right.of[c] =
          widen({share.z, share.w}, rescale, frame.power((shape_.warps - 1 - place_.warp) * kTokens), sides.right);
    }
  }

  const Shape& shape_;
  const P& place_;
  const Inputs<float, In>& inputs_;
  Tiles tiles_;
  PairSums* sums_;  ///< [2][warps][lanes] each segment's sums in both directions; of the first pass.
  Frame frames_[2];
};

}  // namespace vrwkv::ops::cuda
