#pragma once

// The backward pass in float32 with one exponential a token (bi_wkv_framed_backward.cuh), for pairs of neighbouring
// channels of 16-bit tensors. All that stands beside a segment is what the forward pass has kept. q and h take the
// places of all that is read of a token, and k and v are read once more, from the second cache: so twice as much of all
// sequences is on the device at once as with single channels, and half as often the blocks of a sequence wait for each
// other. The tokens of a block's next chunk come in while gk and gv of this one are written.

#include "ops/cuda/bi_wkv_pair_tile.cuh"

namespace vrwkv::ops::cuda {

/// A block's work on a chunk of 64 channels, for a PairPlace P. kAlone: there is one chunk, and nothing to exchange.
template <bool kGated, bool kAlone, typename P, typename In>
class PairGradients {
 public:
  /// Of tokens that a block reads before it meets others: k, v, gy, and r with a gate.
  static constexpr int kTokenBytes = PairTile<P, In>::kBytes / 4 * (kGated ? 4 : 3);
  /// Of shared memory.
  static constexpr int kBytes = PairTile<P, In>::kBytes + PairFrames<P>::kBytes +
                                P::kWarps * kLanes * static_cast<int>(sizeof(float4) + sizeof(PairSums));

  __device__ __forceinline__ PairGradients(const Shape& shape, const P& place, char* memory,
                                           const Inputs<float, In>& inputs, const KeptSums<float>& kept,
                                           const GradientPointers<float, In>& gradients, float2 frames)
      : shape_(shape),
        place_(place),
        inputs_(inputs),
        kept_(kept),
        gradients_(gradients),
        tile_(memory, place.warp, place.lane),
        entry_(entry(place, memory)),
        frames_(shape, place, memory + Tile::kBytes, entry_.w(), entry_.u()),
        parts_(parts(memory)) {
    frames_.of[0].restore(frames.x);
    frames_.of[1].restore(frames.y);
  }

  /// Starts to copy k, v and the entry at `place`. Complete after finish_loads().
  static __device__ __forceinline__ void start(const Shape& shape, const P& place, char* memory,
                                               const Inputs<float, In>& inputs, const KeptSums<float>& kept) {
    const Tile tile(memory, place.warp, place.lane);
    Copies copies(shape, place);
#pragma unroll 1
    for (int part = 0; part < Tile::kParts; ++part) copies.template start_keys<false>(tile, part, Tile::kKeys, inputs);
    entry(place, memory).start(shape, place, inputs, kept);
  }
  /// The frames of the thread's channels at `place`.
  static __device__ __forceinline__ float2 frames(const Shape& shape, const P& place, const KeptSums<float>& kept) {
    const auto chunk = static_cast<int64_t>(place.b) * shape.chunks + place.chunk;
    return *reinterpret_cast<const float2*>(kept.frames + chunk * shape.channels + place.whole_pair(shape));
  }

  __device__ __forceinline__ bool takes_frames() const { return frames_.fit(); }

  /// The gradients of the chunk, whose k and v are in the tile. Then, if it `continues`, those of `next` come in, whose
  /// frames it returns. `met` is called when all warps have come to the chunk.
  template <typename Meet, typename Next, typename Met>
  __device__ __forceinline__ float2 run(const GlobalSums<float>& global, const Meet& meet, bool continues,
                                        const Next& next, const Met& met) {
    start_rest();
    PairMarks marks;
    const Sides<PairSums> forward{*entry_.left, *entry_.right};
    mark_parts(forward.left, marks);
    finish_loads();
    PairSums left, right;
    find_terms(left, right, forward, marks);
    frames_.put(left, right);
    __syncthreads();
    met();
    Sides<PairSums> beside = frames_.beside();
    if constexpr (!kAlone) {
      frames_.leave(left, right, beside, global,
                    [](const Frame& frame, const FramedSums& sums) { return frame.leave_gradient(sums); });
      meet();
      meet_sequence(place_, shape_, global);
    }
    FirstPart first(shape_, place_, inputs_);
    if constexpr (!kAlone) {
      frames_.gather(frames_.sums, global, [](const Frame& frame, const Sums<float>& sums, float between) {
        return frame.gradient_exponent(sums, between);
      });
      __syncthreads();
      frames_.enter_gathered(beside, frames_.sums);
    }
    __syncthreads();  // What is gathered, or left by segments, is read.
    const float2 next_frames = write_gradients(first, beside, marks, continues, next);
    parts_[place_.warp * kLanes + place_.lane] = {moment_[0] - gu_[0], gu_[0], moment_[1] - gu_[1], gu_[1]};
    return next_frames;
  }

  /// Writes a block's parts of the gradients of w and u, which all its warps have left in `memory`: sums over the
  /// warps, in their order.
  static __device__ __forceinline__ void write_parts(const Shape& shape, const P& place, char* memory,
                                                     const GradientPointers<float, In>& gradients) {
    const int c = place.warp;
    if (c >= 2 || !place.inside(shape, c)) return;
    const float4* all = parts(memory) + place.lane;
    float2 sum{};
#pragma unroll
    for (int warp = 0; warp < P::kWarps; ++warp) {
      const float2 part = reinterpret_cast<const float2*>(all + warp * kLanes)[c];
      sum.x += part.x;
      sum.y += part.y;
    }
    gradients.gw_parts[place.chunk_index(shape, c)] = sum.x;
    gradients.gu_parts[place.chunk_index(shape, c)] = sum.y;
  }

 private:
  using Tile = PairTile<P, In>;
  using Copies = PairCopies<P, In>;
  using Pair = Chunk<In, 2>;
  static constexpr int kTokens = P::kTokens;
  static constexpr int kLast = Tile::kParts - 1;

  /// k and v of the first part's tokens, from global memory: it has no place before it is finished.
  struct FirstPart {
    Pair keys[kPart], values[kPart];

    __device__ __forceinline__ FirstPart(const Shape& shape, const P& place, const Inputs<float, In>& inputs) {
      const auto read = [&](Pair(&to)[kPart], const In* from, uint32_t missing) {
        const PairRows<In> rows(shape, place, const_cast<In*>(from), shape.channels);  // Only read.
#pragma unroll
        for (int i = 0; i < kPart; ++i) rows.load_below(to[i], i, place.count, missing);
      };
      read(keys, inputs.k, Copies::kMissingKey);
      read(values, inputs.v, 0);
    }
  };

  /// Sums beside the parts of a segment, but for the outermost part. They have no initial values, which local memory
  /// would have to take.
  class PairMarks {
   public:
    __device__ __forceinline__ void put(int i, const PairSums& sums) { marks_[i] = {sums.of[0], sums.of[1]}; }
    __device__ __forceinline__ PairSums at(int i) const { return {{marks_[i].first, marks_[i].second}}; }

   private:
    struct alignas(16) Mark {
      FramedSums first, second;
    };
    Mark marks_[kLast];
  };

  /// [warps][lanes] parts of the gradients of w and u of both channels.
  static __device__ __forceinline__ float4* parts(char* memory) {
    return reinterpret_cast<float4*>(memory + Tile::kBytes + PairFrames<P>::kBytes);
  }
  /// What a thread needs of a chunk besides its tokens: at the places of the segment's sums, and behind the parts.
  static __device__ __forceinline__ PairEntry entry(const P& place, char* memory) {
    const auto sums = [&](int i) {
      return reinterpret_cast<PairSums*>(memory + Tile::kBytes) + (i * P::kWarps + place.warp) * kLanes + place.lane;
    };
    return {reinterpret_cast<float4*>(sums(0)), sums(1), sums(3)};
  }

  /// Leaves what stands left of the parts, but for the first one.
  __device__ __forceinline__ void mark_parts(PairSums state, PairMarks& marks) const {
#pragma unroll 1
    for (int part = 0; part < kLast; ++part) {
      const PairTerms<In, kPart> terms(frames_.of, tile_.at(part, Tile::kKeys), tile_.at(part, Tile::kValues));
#pragma unroll
      for (int i = 0; i < kPart; ++i) frames_.push(state, terms, i);
      marks.put(part, state);
    }
  }

  /// Starts to copy what mark_parts() does not need.
  __device__ __forceinline__ void start_rest() const {
    const auto copy = [&](typename Tile::Slot slot, const In* tensor) {
      Copies copies(shape_, place_);
#pragma unroll 1
      for (int part = 0; part < Tile::kParts; ++part) copies.start(tile_, part, slot, tensor);
    };
    copy(Tile::kGradients, gradients_.gy);
    if constexpr (kGated) copy(Tile::kGates, inputs_.r);
  }

  /// The segment's first token, counted from the middle of the sequence.
  __device__ __forceinline__ float first_token() const {
    const int token = (place_.chunk * P::kWarps + place_.warp) * kTokens;
    return static_cast<float>(token) - 0.5f * static_cast<float>(static_cast<int>(shape_.tokens) - 1);
  }

  /// From right to left: outputs, gr, and the gradient terms q and h with their scans; `left` is what the segment gives
  /// to the tokens right of it, `right` to those on its left. `forward`: the sums beside the segment; `marks`: those
  /// left of the parts, then the gradient sums right of them.
  __device__ __forceinline__ void find_terms(PairSums& left, PairSums& right, const Sides<PairSums>& forward,
                                             PairMarks& marks) {
    float passed[2] = {1.0f, 1.0f}, moment[2]{};
    const float part_decay[2] = {frames_.of[0].power(kPart), frames_.of[1].power(kPart)};
    left = right = PairSums{};
    PairSums forward_right = forward.right;
    PairRows<In> gr(shape_, place_, gradients_.gr, gradients_.stride);
    gr.advance(kLast);
    int count = (place_.inside(shape_, 0) ? place_.count : 0) - kLast * kPart;
    float token = first_token() + static_cast<float>(kLast * kPart);
#pragma unroll 1
    for (int part = kLast; part >= 0; --part, count += kPart, token -= kPart) {
      const PairTerms<In, kPart> own(frames_.of, tile_.at(part, Tile::kKeys), tile_.at(part, Tile::kValues));
      PairSums state = part > 0 ? marks.at(part - 1) : forward.left, left_of[kPart];
      Pair gy[kPart], gates[kPart];
#pragma unroll
      for (int i = 0; i < kPart; ++i) {
        gy[i] = load_chunk<2>(tile_.at(part, Tile::kGradients) + i * Tile::kRow);
        if constexpr (kGated) gates[i] = load_chunk<2>(tile_.at(part, Tile::kGates) + i * Tile::kRow);
      }
      __syncwarp();  // The terms take the places of what other lanes read.
#pragma unroll
      for (int i = 0; i < kPart; ++i) {
        left_of[i] = state;
        frames_.push(state, own, i);
      }
      if (part < kLast) marks.put(part, right);
      float q[kPart][2], h[kPart][2];
#pragma unroll
      for (int i = kPart - 1; i >= 0; --i) {
        float of_gate[2];
#pragma unroll
        for (int c = 0; c < 2; ++c) {
          const Frame& frame = frames_.of[c];
          const FramedSums& before = left_of[i].of[c];
          const float e = own.e[c][i], ev = own.ev[c][i];
          const float inverse = fast_reciprocal(fmaf(frame.bonus, e, before.b + forward_right.of[c].b));
          const float y = fmaf(frame.bonus, ev, before.a + forward_right.of[c].a) * inverse;
          float gradient = gy[i][c];
          if constexpr (kGated) {
            const float gate = sigmoid(gates[i][c]);
            gradient *= gate;
            of_gate[c] = gradient * y * (1.0f - gate);
          }
          q[i][c] = gradient * inverse;
          h[i][c] = q[i][c] * y;
          moment[c] = fmaf(token + static_cast<float>(i), fmaf(q[i][c], before.a, -h[i][c] * before.b), moment[c]);
          frame.push(right.of[c], q[i][c], h[i][c]);
          frame.push(forward_right.of[c], ev, e);
        }
        if constexpr (kGated) gr.store_below(of_gate, i, count);
        tile_.terms(part)[i * kLanes] = {q[i][0], h[i][0], q[i][1], h[i][1]};
      }
      if constexpr (kGated) gr.advance(-1);
      PairSums of_part;
#pragma unroll
      for (int c = 0; c < 2; ++c) {
#pragma unroll
        for (int i = 0; i < kPart; ++i) frames_.of[c].push(of_part.of[c], q[i][c], h[i][c]);
        left.of[c] = widen(of_part.of[c], passed[c], 1.0f, left.of[c]);
        passed[c] *= part_decay[c];
      }
    }
#pragma unroll
    for (int c = 0; c < 2; ++c) moment_[c] = -2.0f * moment[c];  // The terms of tokens themselves follow with gk.
  }

  /// From left to right: gk and gv, from what stands beside the segment and the gradient sums right of its parts. While
  /// a part is computed, the next one's k and v come in to its second half, and k and v of the block's next chunk to
  /// the first half of the part before, from which gk and gv are gone. Gives that chunk's frames.
  template <typename Next>
  __device__ __forceinline__ float2 write_gradients(FirstPart& first, const Sides<PairSums>& beside,
                                                    const PairMarks& marks, bool continues, const Next& next) {
    // Right of the parts: also what stands right of the segment. They wait in shared memory, in the thread's own places
    // among the segments' sums and the parts of gradients, which lie side by side.
    static_assert(kLast == 3);
    const auto right_of_part = [&](int part) -> PairSums& {
      return frames_.sums[((part - 1) * P::kWarps + place_.warp) * kLanes];
    };
    PairSums state = beside.right;
    float power[2], part_decay[2];
#pragma unroll
    for (int c = 0; c < 2; ++c) power[c] = part_decay[c] = frames_.of[c].power(kPart);
#pragma unroll
    for (int part = kLast; part > 0; --part) {
      right_of_part(part) = state;
      state = marks.at(part - 1);
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        state.of[c] = widen(state.of[c], 1.0f, power[c], beside.right.of[c]);
        power[c] *= part_decay[c];
      }
    }
    PairOutputs<P, In> outputs(shape_, place_, gradients_);
    Copies again(shape_, place_), following(shape_, next());
    again.skip();
    PairSums left = beside.left;
    Pair(&keys)[kPart] = first.keys, (&values)[kPart] = first.values;
    float token = first_token(), gu[2]{};
    float2 next_frames{};
#pragma unroll 1
    for (int part = 0; part < Tile::kParts; ++part) {
      if (part > 0) {
        __pipeline_wait_prior(1);  // But for what the next chunk has started.
        __syncwarp();
        state = right_of_part(part);
#pragma unroll
        for (int i = 0; i < kPart; ++i) {
          keys[i] = load_chunk<2>(tile_.at(part - 1, Tile::kGradients) + i * Tile::kRow);
          values[i] = load_chunk<2>(tile_.at(part - 1, Tile::kGates) + i * Tile::kRow);
        }
      }
      float4 terms[kPart];
#pragma unroll
      for (int i = 0; i < kPart; ++i) terms[i] = tile_.terms(part)[i * kLanes];
      __syncwarp();  // All lanes have read the part.
      if (part < kLast) again.template start_keys<true>(tile_, part, Tile::kGradients, inputs_);
      __pipeline_commit();
      if (continues && part > 0) following.template start_keys<false>(tile_, part - 1, Tile::kKeys, inputs_);
      if (continues && part == kLast) {
        following.template start_keys<false>(tile_, part, Tile::kKeys, inputs_);
        entry_.start(shape_, next(), inputs_, kept_);
        next_frames = frames(shape_, next(), kept_);
      }
      __pipeline_commit();
      PairSums right_of[kPart];
#pragma unroll
      for (int i = kPart - 1; i >= 0; --i) {
        right_of[i] = state;
        frames_.of[0].push(state.of[0], terms[i].x, terms[i].y);
        frames_.of[1].push(state.of[1], terms[i].z, terms[i].w);
      }
      In* const rows = tile_.rows(part, part < kLast ? Tile::kKeys : Tile::kGradients);
#pragma unroll
      for (int i = 0; i < kPart; ++i, token += 1.0f) {
        float of_key[2], of_value[2];
#pragma unroll
        for (int c = 0; c < 2; ++c) {
          const Frame& frame = frames_.of[c];
          const float q = c == 0 ? terms[i].x : terms[i].z, h = c == 0 ? terms[i].y : terms[i].w;
          const float term = frame.term(keys[i][c]), value = values[i][c];
          const FramedSums &before = left.of[c], &behind = right_of[i].of[c];
          const float own = fmaf(value, q, -h);
          const float from_right = fmaf(value, behind.a, -behind.b);
          const float others = fmaf(frame.bonus, own, fmaf(value, before.a, -before.b));
          of_value[c] = term * fmaf(frame.bonus, q, behind.a + before.a);
          of_key[c] = term * (from_right + others);
          moment_[c] = fmaf(token, term * (from_right - others), moment_[c]);
          gu[c] = fmaf(term, own, gu[c]);
          frame.push(left.of[c], q, h);
        }
        store_chunk<2>(rows + i * Tile::kRow + 2 * place_.lane, of_key);
        store_chunk<2>(rows + (kPart + i) * Tile::kRow + 2 * place_.lane, of_value);
      }
      outputs.write(rows);
    }
#pragma unroll
    for (int c = 0; c < 2; ++c) gu_[c] = frames_.of[c].bonus * gu[c];
    return next_frames;
  }

  const Shape& shape_;
  const P& place_;
  const Inputs<float, In>& inputs_;
  const KeptSums<float>& kept_;
  const GradientPointers<float, In>& gradients_;
  Tile tile_;
  PairEntry entry_;
  PairFrames<P> frames_;
  float4* parts_;
  float gu_[2], moment_[2];  ///< The thread's shares of the gradient of u, and of w's but for that of u.
};

}  // namespace vrwkv::ops::cuda
