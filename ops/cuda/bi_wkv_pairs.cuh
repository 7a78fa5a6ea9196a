#pragma once

// The forward pass over long sequences in float32 with one exponential a token (bi_wkv_framed.cuh), for pairs of
// neighbouring channels. A thread reads and writes both in one access, what a segment takes besides its tokens is there
// once for two channels, and 1.6 times as much of all sequences is on the device at once: fewer turns.

#include "ops/cuda/bi_wkv_framed.cuh"
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

  /// Of tokens that a block reads.
  static int token_bytes(int warps) { return Tiles::bytes(warps, false); }
  /// Of shared memory.
  static int bytes(int warps) { return token_bytes(warps) + 2 * warps * kLanes * static_cast<int>(sizeof(PairSums)); }

  __device__ __forceinline__ PairBlock(const Shape& shape, const P& place, char* memory,
                                       const Inputs<float, In>& inputs)
      : shape_(shape),
        place_(place),
        inputs_(inputs),
        tiles_(memory, place, shape.warps),
        sums_(reinterpret_cast<PairSums*>(memory + Tiles::bytes(shape.warps, false)) + place.lane),
        w_{inputs.w[place.channel(shape, 0)], inputs.w[place.channel(shape, 1)]},
        frames_{frame(0), frame(1)} {}

  /// Starts to copy k and v at `place`.
  static __device__ __forceinline__ void start(const Shape& shape, const P& place, char* memory,
                                               const Inputs<float, In>& inputs) {
    const Tiles tiles(memory, place, shape.warps);
    const SegmentCopies<P, In> copies(place, shape);
    copies.template start<kRow>(tiles.k, inputs.k, static_cast<In>(-INFINITY));  // So a missing term vanishes.
    copies.template start<kRow>(tiles.v, inputs.v, static_cast<In>(0.0f));
  }

  __device__ __forceinline__ bool takes_frames() const {
    const int block = shape_.warps * kTokens;
    const bool fits = frames_[0].fits(block, shape_.tokens) && frames_[1].fits(block, shape_.tokens);
    return __all_sync(0xffffffffU, fits) != 0;
  }

  /// The chunk's forward pass, whose tokens start() copies.
  __device__ __forceinline__ void run(const GlobalSums<float>& global, const ChunkSums<float>& kept, In* y) {
    finish_loads();
    PairSums left, right;
    PairMarks marks;
    scan_segment(left, right, marks);
    PairSums beside_left, beside_right;
#pragma unroll 2
    for (int warp = 0; warp < place_.warp; ++warp) join(beside_left, sums_[warp * kLanes]);
#pragma unroll 2
    for (int warp = shape_.warps - 1; warp > place_.warp; --warp) {
      join(beside_right, sums_[(shape_.warps + warp) * kLanes]);
    }
    leave(left, right, beside_left, beside_right, global);
    meet_sequence(place_, shape_, global);
    // All have read the segments' sums, whose memory takes what is gathered.
    auto* const gathered = reinterpret_cast<Sums<float>*>(sums_ - place_.lane);
    gather_chunks<true>(place_, shape_, gathered, w_, global);
    __syncthreads();
    float rescale[2];
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      const Sides<Sums<float>> incoming = gathered_sums(place_, shape_, gathered, c);
      keep(kept, incoming, c);
      rescale[c] = enter(beside_left.of[c], beside_right.of[c], incoming, c);
    }
    write_outputs(beside_left, beside_right, rescale, marks, y);
  }

 private:
  using Tiles = ForwardTiles<In, kTokens, 2>;
  using PairMarks = Marks<kTokens, PairSums>;
  static constexpr int kRow = 2 * kLanes;

  __device__ __forceinline__ Frame frame(int c) const { return {w_[c], inputs_.u[place_.channel(shape_, c)], kTokens}; }

  /// Leaves the chunk's sums for others: `left` and `right` are the segment's, `beside` those left and right of it.
  __device__ __forceinline__ void leave(const PairSums& left, const PairSums& right, const PairSums& beside_left,
                                        const PairSums& beside_right, const GlobalSums<float>& global) const {
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      if (!place_.inside(shape_, c)) continue;
      FramedSums state = beside_left.of[c];
      if (place_.warp == shape_.warps - 1) {
        frames_[c].join(state, left.of[c]);
        store_sums(global.at(0, place_, shape_, c), frames_[c].leave(state));
      }
      if (place_.warp == 0) {
        state = beside_right.of[c];
        frames_[c].join(state, right.of[c]);
        store_sums(global.at(1, place_, shape_, c), frames_[c].leave(state));
      }
    }
  }

  /// Keeps what comes in to the chunk for the backward pass, or nothing where `kept` is null.
  __device__ __forceinline__ void keep(const ChunkSums<float>& kept, const Sides<Sums<float>>& incoming, int c) const {
    if (kept.sums == nullptr || !place_.inside(shape_, c)) return;
    if (place_.warp == 0) store_sums(kept.at(0, place_, shape_, c), incoming.left);
    if (place_.warp == shape_.warps - 1) store_sums(kept.at(1, place_, shape_, c), incoming.right);
  }

  /// Adds what comes in from other chunks, which may raise the frame, to what stands beside the segment; gives what the
  /// segment's own sums have to be multiplied by.
  __device__ __forceinline__ float enter(FramedSums& left, FramedSums& right, const Sides<Sums<float>>& incoming,
                                         int c) {
    SegmentSides segment{{left, right}};
    widen_segment(segment, frames_[c], place_, shape_, incoming);
    left = segment.sides.left;
    right = segment.sides.right;
    return segment.rescale;
  }

  /// The gates' logits of a part. They have no tile, so that four blocks fit a multiprocessor with a gate, too.
  __device__ __forceinline__ void load_gates(Chunk<In, 2> (&gates)[kPart], int first) const {
    const int64_t column = place_.group_channel + 2 * place_.lane;
    const In* from = inputs_.r + ((place_.first_row + first) * shape_.channels + column);
    if (shape_.vectorized && first + kPart <= place_.count) {
      if (column >= shape_.channels) from -= column;
#pragma unroll
      for (int i = 0; i < kPart; ++i, from += shape_.channels) gates[i] = load_chunk<2>(from);
      return;
    }
#pragma unroll
    for (int i = 0; i < kPart; ++i, from += shape_.channels) {
      const bool is_token = first + i < place_.count;
      const float values[2] = {is_token && column < shape_.channels ? static_cast<float>(from[0]) : 0.0f,
                               is_token && column + 1 < shape_.channels ? static_cast<float>(from[1]) : 0.0f};
      gates[i] = Chunk<In, 2>::rounded(values);
    }
  }

  /// y of the segment's tokens, by way of the places of k. `left` and `right`: all that stands beside the segment.
  __device__ __forceinline__ void write_outputs(const PairSums& left, PairSums right, const float (&rescale)[2],
                                                PairMarks& marks, In* y) const {
    float power[2], power_step[2];
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      power[c] = frames_[c].power(kTokens - kPart);
      power_step[c] = frames_[c].power(-kPart);
    }
    Chunk<In, 2> gates[kPart], next_gates[kPart];
    if constexpr (kGated) load_gates(next_gates, kTokens - kPart);
#pragma unroll 1
    for (int first = kTokens - kPart; first >= 0; first -= kPart) {
      if constexpr (kGated) {
#pragma unroll
        for (int i = 0; i < kPart; ++i) gates[i] = next_gates[i];
        if (first > 0) load_gates(next_gates, first - kPart);
      }
      const PairTerms<In> terms(frames_, tiles_.k + first * kRow, tiles_.v + first * kRow);
      PairSums with_own[kPart], state = marks.take();
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        state.of[c] = widen(state.of[c], rescale[c], power[c], left.of[c]);
        power[c] *= power_step[c];
      }
#pragma unroll
      for (int i = 0; i < kPart; ++i) {
#pragma unroll
        for (int c = 0; c < 2; ++c) {
          with_own[i].of[c] = {fmaf(frames_[c].bonus, terms.ev[c][i], state.of[c].a),
                               fmaf(frames_[c].bonus, terms.e[c][i], state.of[c].b)};
        }
        push(state, terms, i);
      }
#pragma unroll
      for (int i = kPart - 1; i >= 0; --i) {
        float out[2];
#pragma unroll
        for (int c = 0; c < 2; ++c) {
          const FramedSums& own = with_own[i].of[c];
          float below = own.b + right.of[c].b;
          // Times 1 / (1 + e^{-r}), in one division.
          if constexpr (kGated) below = fmaf(below, fast_exp(-gates[i][c]), below);
          out[c] = (own.a + right.of[c].a) * fast_reciprocal(below);
        }
        store_chunk<2>(tiles_.k + (first + i) * kRow, out);
        push(right, terms, i);
      }
      SegmentCopies<P, In>(place_, shape_).template write<kPart>(tiles_.k, y, shape_.channels, first);
    }
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
  __device__ __forceinline__ void scan_segment(PairSums& left, PairSums& right, PairMarks& marks) {
#pragma unroll 1
    for (bool framed = false;; framed = true) {
      float passed[2] = {1.0f, 1.0f};
      left = right = PairSums{};
#pragma unroll 1
      for (int first = 0; first < kTokens; first += kPart) {
        if (first > 0) marks.leave(left);
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

  const Shape& shape_;
  const P& place_;
  const Inputs<float, In>& inputs_;
  Tiles tiles_;
  PairSums* sums_;  ///< [2][warps][lanes] each segment's sums in both directions.
  float w_[2];
  Frame frames_[2];
};

}  // namespace vrwkv::ops::cuda
