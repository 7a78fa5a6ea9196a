#pragma once

// The forward pass over long sequences in float32 with one exponential a token (bi_wkv_framed.cuh), for pairs of
// neighbouring channels. A thread reads and writes both in one access, what a segment takes besides its tokens is there
// once for two channels, and 1.6 times as much of all sequences is on the device at once: fewer turns.

#include "ops/cuda/bi_wkv_pair_frames.cuh"

namespace vrwkv::ops::cuda {

/// w and u of a thread's channels.
struct PairParameters {
  float2 w, u;
  template <typename P, typename In>
  __device__ __forceinline__ PairParameters(const Shape& shape, const P& place, const Inputs<float, In>& inputs) {
    const unsigned first = place.channel(shape, 0), second = place.channel(shape, 1);
    w.x = inputs.w[first];
    u.x = inputs.u[first];
    w.y = inputs.w[second];
    u.y = inputs.u[second];
  }
};

/// A block's work on a chunk of 64 channels, for a PairPlace P.
template <bool kGated, typename P, typename In>
class PairBlock {
 public:
  /// Of tokens that a block reads.
  static constexpr int kTokenBytes = ForwardTiles<In, P::kTokens, 2>::bytes(P::kWarps, false);
  /// Of shared memory.
  static constexpr int kBytes = kTokenBytes + PairFrames<P>::kBytes;

  __device__ __forceinline__ PairBlock(const Shape& shape, const P& place, char* memory,
                                       const Inputs<float, In>& inputs, const PairParameters& parameters)
      : shape_(shape),
        place_(place),
        inputs_(inputs),
        tiles_(memory, place, P::kWarps),
        frames_(shape, place, memory + kTokenBytes, parameters.w, parameters.u) {}

  /// Starts to copy k and v at `place`.
  static __device__ __forceinline__ void start(const Shape& shape, const P& place, char* memory,
                                               const Inputs<float, In>& inputs) {
    const Tiles tiles(memory, place, P::kWarps);
    const SegmentCopies<P, In> copies(place, shape);
    copies.template start<kRow>(tiles.k, inputs.k, static_cast<In>(-INFINITY));  // So a missing term vanishes.
    copies.template start<kRow>(tiles.v, inputs.v, static_cast<In>(0.0f));
  }

  __device__ __forceinline__ bool takes_frames() const { return frames_.fit(); }

  /// The chunk's forward pass, whose tokens start() copies.
  template <typename Meet>
  __device__ __forceinline__ void run(const GlobalSums<float>& global, const Meet& meet, const KeptSums<float>& kept,
                                      In* y) {
    finish_loads();
    PairSums left, right;
    PairMarks marks;
    frames_.scan(
        left, right, [&](int part) { return tiles_.k + part * kPart * kRow; },
        [&](int part) { return tiles_.v + part * kPart * kRow; },
        [&](int, const PairSums& sums) { marks.leave(sums); });
    Sides<PairSums> beside = frames_.beside();
    float rescale[2] = {1.0f, 1.0f};
    exchange(left, right, beside, rescale, global, meet);
    keep(kept, beside);
    write_outputs(beside.left, beside.right, rescale, marks, kept, y);
  }

 private:
  static constexpr int kTokens = P::kTokens;
  using Tiles = ForwardTiles<In, kTokens, 2>;
  using PairMarks = Marks<kTokens, PairSums>;
  static constexpr int kRow = 2 * kLanes;

  /// Leaves the chunk's sums and adds those of the others to what stands beside the segment, which may raise the
  /// frames.
  template <typename Meet>
  __device__ __forceinline__ void exchange(const PairSums& left, const PairSums& right, Sides<PairSums>& beside,
                                           float (&rescale)[2], const GlobalSums<float>& global, const Meet& meet) {
    frames_.leave(left, right, beside, global,
                  [](const Frame& frame, const FramedSums& sums) { return frame.leave(sums); });
    meet();
    meet_sequence(place_, shape_, global);
    // All have read the segments' sums, whose memory takes what is gathered.
    const bool moderate = frames_.gather(
        frames_.sums, global,
        [](const Frame& frame, const Sums<float>& sums, float between) { return frame.exponent(sums, between); });
    if (__syncthreads_and(static_cast<int>(moderate)) != 0) {
      frames_.enter_gathered(beside, frames_.sums);
    } else {
      // What comes in raises the frame.
      auto* const gathered = reinterpret_cast<Sums<float>*>(frames_.sums - place_.lane);
      gather_chunks<true>(place_, shape_, gathered, {frames_.of[0].w(), frames_.of[1].w()}, global);
      __syncthreads();
#pragma unroll
      for (int c = 0; c < 2; ++c) rescale[c] = frames_.enter(beside, gathered_sums(place_, shape_, gathered, c), c);
    }
  }

  /// Keeps what comes in to the chunk, which is all that stands beside its outermost segments, and its frames for the
  /// backward pass, or nothing where `kept` is null.
  __device__ __forceinline__ void keep(const KeptSums<float>& kept, const Sides<PairSums>& beside) const {
    if (kept.sums == nullptr) return;
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      if (!place_.inside(shape_, c)) continue;
      const auto store = [&](int direction, const PairSums& sums) {
        store_sums(kept.at(direction, place_, shape_, c), frames_.of[c].leave(sums.of[c]));
      };
      if (place_.warp == 0) {
        store(0, beside.left);
        if (kept.frames != nullptr) kept.frames[place_.chunk_index(shape_, c)] = frames_.of[c].value();
      }
      if (place_.warp == P::kWarps - 1) store(1, beside.right);
    }
  }

  /// The gates' logits of a part. They have no tile, so that four blocks fit a multiprocessor with a gate, too.
  __device__ __forceinline__ void load_gates(Chunk<In, 2> (&gates)[kPart], int first) const {
    const int64_t column = place_.group_channel + 2 * place_.lane;
    const In* from = inputs_.r + (place_.first(shape_.channels) + first * shape_.channels + column);
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
                                                PairMarks& marks, const KeptSums<float>& kept, In* y) const {
    float power[2], power_step[2];
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      power[c] = frames_.of[c].power(kTokens - kPart);
      power_step[c] = frames_.of[c].power(-kPart);
    }
    const SegmentOutputs<P, In> outputs(place_, shape_, y);
    Chunk<In, 2> gates[kPart], next_gates[kPart];
    if constexpr (kGated) load_gates(next_gates, kTokens - kPart);
#pragma unroll 1
    for (int first = kTokens - kPart; first >= 0; first -= kPart) {
      if constexpr (kGated) {
#pragma unroll
        for (int i = 0; i < kPart; ++i) gates[i] = next_gates[i];
        if (first > 0) load_gates(next_gates, first - kPart);
      }
      const PairTerms<In, kPart> terms(frames_.of, tiles_.k + first * kRow, tiles_.v + first * kRow);
      PairSums with_own[kPart], state = marks.take();
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        state.of[c] = widen(state.of[c], rescale[c], power[c], left.of[c]);
        power[c] *= power_step[c];
      }
      if (kept.beside != nullptr) keep_beside(place_, shape_, kept, first / kPart, state, right);
#pragma unroll
      for (int i = 0; i < kPart; ++i) {
#pragma unroll
        for (int c = 0; c < 2; ++c) {
          with_own[i].of[c] = {fmaf(frames_.of[c].bonus, terms.ev[c][i], state.of[c].a),
                               fmaf(frames_.of[c].bonus, terms.e[c][i], state.of[c].b)};
        }
        frames_.push(state, terms, i);
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
        frames_.push(right, terms, i);
      }
      outputs.template write<kPart>(tiles_.k, first);
    }
  }

  const Shape& shape_;
  const P& place_;
  const Inputs<float, In>& inputs_;
  Tiles tiles_;
  PairFrames<P> frames_;
};

}  // namespace vrwkv::ops::cuda
