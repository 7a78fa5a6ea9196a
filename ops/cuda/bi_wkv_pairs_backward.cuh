#pragma once

// The backward pass over long sequences in float32 with one exponential a token (bi_wkv_framed_backward.cuh), for pairs
// of neighbouring channels of 16-bit tensors. q and h take the places of all that is read of a token, and k and v are
// read once more, from the second cache: so twice as much of all sequences is on the device at once as with single
// channels, and half as often the blocks of a sequence wait for each other. The tokens of a block's next chunk come in
// while gk and gv of this one are written.

#include "ops/cuda/bi_wkv_pair_tile.cuh"

namespace vrwkv::ops::cuda {

/// A block's work on a chunk of 64 channels.
template <bool kGated, int kTokens, typename In>
class PairGradients {
 public:
  using P = PairPlace<kTokens>;

  /// Of tokens that a block reads before it scans them.
  static int token_bytes(int warps) { return Tile::bytes(warps) / 2; }
  /// Of shared memory.
  static int bytes(int warps) {
    return Tile::bytes(warps) + PairFrames<kTokens>::bytes(warps) + warps * kLanes * static_cast<int>(sizeof(float4)) +
           PairEntry::bytes();
  }

  __device__ __forceinline__ PairGradients(const Shape& shape, const P& place, char* memory,
                                           const Inputs<float, In>& inputs, const ChunkSums<float>& kept,
                                           const GradientPointers<float, In>& gradients)
      : shape_(shape),
        place_(place),
        inputs_(inputs),
        kept_(kept),
        gradients_(gradients),
        tile_(memory, place.warp, place.lane),
        entry_(entry(shape, place, memory)),
        frames_(shape, place, memory + Tile::bytes(shape.warps), entry_.w(), entry_.u()),
        parts_(parts(shape, memory)) {}

  /// Starts to copy k, v and the entry at `place`. Complete after finish_loads(), in which other warps have their
  /// share.
  static __device__ __forceinline__ void start(const Shape& shape, const P& place, char* memory,
                                               const Inputs<float, In>& inputs, const ChunkSums<float>& kept) {
    const Tile tile(memory, place.warp, place.lane);
    Copies copies(shape, place);
#pragma unroll 1
    for (int part = 0; part < Tile::kParts; ++part, copies.advance()) copies.start_keys(tile, part, inputs);
    entry(shape, place, memory).start(shape, place, inputs, kept);
  }

  __device__ __forceinline__ bool takes_frames() const { return frames_.fit(); }

  /// The gradients of the chunk, whose k and v are in the tile. Then, if it `continues`, those of `next` come in.
  /// `scanned` is called when all warps have scanned the chunk.
  template <typename Meet, typename Next, typename Scanned>
  __device__ __forceinline__ void run(const GlobalSums<float>& global, const Meet& meet, bool continues,
                                      const Next& next, const Scanned& scanned) {
    start_rest();
    PairSums left, right;
    PairMarks marks;
    frames_.template scan<kPart>(
        left, right, [&](int first) { return tile_.at(first / kPart, Tile::kKeys); },
        [&](int first) { return tile_.at(first / kPart, Tile::kValues); },
        [&](int first, const PairSums& sums) { marks.put(first / kPart - 1, sums); });
    scanned();
    Sides<PairSums> beside = frames_.beside();
    float rescale[2];
#pragma unroll
    for (int c = 0; c < 2; ++c) rescale[c] = frames_.enter(beside, entry_.incoming(c), c);
    finish_loads();
    left = right = PairSums{};
    find_terms(left, right, beside, rescale, marks);
    __syncthreads();  // The segments' forward sums are read; their memory takes the gradient sums.
    frames_.put(left, right);
    __syncthreads();
    beside = frames_.beside();
    frames_.leave(left, right, beside, global,
                  [](const Frame& frame, const FramedSums& sums) { return frame.leave_gradient(sums); });
    meet();
    meet_sequence(place_, shape_, global);
    ReadAgain again(shape_, place_, inputs_);
    frames_.gather(frames_.sums, global, [](const Frame& frame, const Sums<float>& sums, float between) {
      return frame.gradient_exponent(sums, between);
    });
    __syncthreads();
    frames_.enter_gathered(beside, frames_.sums);
    __syncthreads();  // What is gathered is read.
    write_gradients(again, beside, marks, continues, next);
    leave_parts();
  }

  /// Writes a block's parts of the gradients of w and u, which all its warps have left in `memory`: sums over the
  /// warps, in their order.
  static __device__ __forceinline__ void write_parts(const Shape& shape, const P& place, char* memory,
                                                     const GradientPointers<float, In>& gradients) {
    const int c = place.warp;
    if (c >= 2 || !place.inside(shape, c)) return;
    const float4* all = parts(shape, memory) + place.lane;
    float2 sum{};
#pragma unroll 4
    for (int warp = 0; warp < shape.warps; ++warp) {
      const float2 part = reinterpret_cast<const float2*>(all + warp * kLanes)[c];
      sum.x += part.x;
      sum.y += part.y;
    }
    gradients.gw_parts[place.chunk_index(shape, c)] = sum.x;
    gradients.gu_parts[place.chunk_index(shape, c)] = sum.y;
  }

 private:
  using Tile = PairTile<kTokens, In>;
  using Copies = PairCopies<kTokens, In>;
  using Pair = Chunk<In, 2>;
  static constexpr int kLast = Tile::kParts - 1;
  static constexpr uint32_t kMissingKey = std::is_same_v<In, c10::BFloat16> ? 0xff80ff80U : 0xfc00fc00U;  ///< -inf

  /// k and v of a part's tokens, from global memory; when they are used, one by one of the next part's.
  struct ReadAgain {
    PairRows<In> k, v;
    Pair keys[kPart], values[kPart];
    int unread;

    __device__ __forceinline__ ReadAgain(const Shape& shape, const P& place, const Inputs<float, In>& inputs)
        : k(shape, place, const_cast<In*>(inputs.k), shape.channels),  // Only read.
          v(shape, place, const_cast<In*>(inputs.v), shape.channels),
          unread(place.count) {
#pragma unroll
      for (int i = 0; i < kPart; ++i) load(i);
    }
    __device__ __forceinline__ void load(int i) {
      k.load_below(keys[i], i, unread, kMissingKey);
      v.load_below(values[i], i, unread, 0);
    }
    /// Goes on to the next part, if there is one.
    __device__ __forceinline__ void advance(bool exists) {
      k.advance(1);
      v.advance(1);
      unread = exists ? unread - kPart : 0;
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
  static __device__ __forceinline__ float4* parts(const Shape& shape, char* memory) {
    return reinterpret_cast<float4*>(memory + Tile::bytes(shape.warps) + PairFrames<kTokens>::bytes(shape.warps));
  }
  /// What the block needs of a chunk besides its tokens; w and u have the place of a segment's sums.
  static __device__ __forceinline__ PairEntry entry(const Shape& shape, const P& place, char* memory) {
    float4* const sums = reinterpret_cast<float4*>(memory + Tile::bytes(shape.warps)) + place.lane;
    return {sums + place.warp * kLanes, reinterpret_cast<Sums<float>*>(sums + 3 * shape.warps * kLanes)};
  }
  __device__ __forceinline__ void leave_parts() const {
    const int first_token = (place_.chunk * shape_.warps + place_.warp) * kTokens;
    const float first = static_cast<float>(first_token) - 0.5f * static_cast<float>(shape_.tokens - 1);
    float gw[2];
#pragma unroll
    for (int c = 0; c < 2; ++c) gw[c] = fmaf(first, moment_[c], moment_by_token_[c]) - gu_[c];
    parts_[place_.warp * kLanes + place_.lane] = {gw[0], gu_[0], gw[1], gu_[1]};
  }

  /// Starts to copy what the scan does not need.
  __device__ __forceinline__ void start_rest() const {
    Copies copies(shape_, place_);
#pragma unroll 1
    for (int part = 0; part < Tile::kParts; ++part, copies.advance()) {
      copies.template start<true>(tile_, part, Tile::kGradients, gradients_.gy, 0.0f);
      if constexpr (kGated) copies.template start<true>(tile_, part, Tile::kGates, inputs_.r, 0.0f);
    }
  }

  /// Tokens that the thread writes of the segment.
  __device__ __forceinline__ int written() const { return place_.inside(shape_, 0) ? place_.count : 0; }

  /// From right to left: outputs, gr, and the gradient terms q and h with their scans; `left` is what the segment gives
  /// to the tokens right of it, `right` to those on its left. `marks` are the forward sums left of the parts, then the
  /// gradient sums right of them.
  __device__ __forceinline__ void find_terms(PairSums& left, PairSums& right, const Sides<PairSums>& beside,
                                             const float (&rescale)[2], PairMarks& marks) {
    float power[2], passed[2] = {1.0f, 1.0f}, part_decay[2], half_bonus[2];
    float gu[2]{}, moment[2]{}, moment_by_token[2]{};
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      power[c] = part_decay[c] = frames_.of[c].power(kPart);
      half_bonus[c] = 0.5f * frames_.of[c].bonus;
    }
    // Left of the parts: also what stands left of the segment.
#pragma unroll
    for (int part = 1; part <= kLast; ++part) {
      PairSums state = marks.at(part - 1);
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        state.of[c] = widen(state.of[c], rescale[c], power[c], beside.left.of[c]);
        power[c] *= part_decay[c];
      }
      marks.put(part - 1, state);
    }
    PairSums forward_right = beside.right;
    PairRows<In> gr(shape_, place_, gradients_.gr, gradients_.stride);
    gr.advance(kLast);
    int count = written() - kLast * kPart;
    float token = kLast * kPart;
#pragma unroll 1
    for (int part = kLast; part >= 0; --part, count += kPart, token -= kPart) {
      const PairTerms<In, kPart> own(frames_.of, tile_.at(part, Tile::kKeys), tile_.at(part, Tile::kValues));
      PairSums state = part > 0 ? marks.at(part - 1) : beside.left, left_of[kPart];
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
          // Of the differences in the gradient of w, -1/2 of what framed_backward() adds up.
          const float with_own = fmaf(ev, q[i][c], -e * h[i][c]);
          const float pairs = fmaf(half_bonus[c], with_own, fmaf(q[i][c], before.a, -h[i][c] * before.b));
          gu[c] += with_own;
          moment[c] += pairs;
          moment_by_token[c] = fmaf(token + static_cast<float>(i), pairs, moment_by_token[c]);
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
    for (int c = 0; c < 2; ++c) {
      gu_[c] = frames_.of[c].bonus * gu[c];
      moment_[c] = -2.0f * moment[c];
      moment_by_token_[c] = -2.0f * moment_by_token[c];
    }
  }

  /// From left to right: gk and gv, from what stands beside the segment and the gradient sums right of its parts.
  template <typename Next>
  __device__ __forceinline__ void write_gradients(ReadAgain& again, const Sides<PairSums>& beside,
                                                  const PairMarks& marks, bool continues, const Next& next) {
    // Right of the parts: also what stands right of the segment. They wait in shared memory, in the thread's own places
    // among the segments' sums and the parts of gradients, which lie side by side.
    static_assert(kLast == 3);
    const auto kept = [&](int part) -> PairSums& {
      return frames_.sums[((part - 1) * shape_.warps + place_.warp) * kLanes];
    };
    PairSums state = beside.right;
    float power[2], part_decay[2];
#pragma unroll
    for (int c = 0; c < 2; ++c) power[c] = part_decay[c] = frames_.of[c].power(kPart);
#pragma unroll
    for (int part = kLast; part > 0; --part) {
      kept(part) = state;
      state = marks.at(part - 1);
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        state.of[c] = widen(state.of[c], 1.0f, power[c], beside.right.of[c]);
        power[c] *= part_decay[c];
      }
    }
    PairRows<In> gk(shape_, place_, gradients_.gk, gradients_.stride);
    PairRows<In> gv(shape_, place_, gradients_.gv, gradients_.stride);
    Copies copies(shape_, next());
    PairSums left = beside.left;
    int count = written();
    float token = 0.0f;
#pragma unroll 1
    for (int part = 0; part < Tile::kParts; ++part, count -= kPart) {
      again.advance(part < kLast);
      float4 terms[kPart];
#pragma unroll
      for (int i = 0; i < kPart; ++i) terms[i] = tile_.terms(part)[i * kLanes];
      PairSums right_of[kPart];
      if (part > 0) state = kept(part);
#pragma unroll
      for (int i = kPart - 1; i >= 0; --i) {
        right_of[i] = state;
        frames_.of[0].push(state.of[0], terms[i].x, terms[i].y);
        frames_.of[1].push(state.of[1], terms[i].z, terms[i].w);
      }
      if (continues) {
        __syncwarp();  // All lanes have read the part.
        copies.start_keys(tile_, part, inputs_);
        copies.advance();
      }
#pragma unroll
      for (int i = 0; i < kPart; ++i, token += 1.0f) {
        float of_key[2], of_value[2];
#pragma unroll
        for (int c = 0; c < 2; ++c) {
          const Frame& frame = frames_.of[c];
          const float q = c == 0 ? terms[i].x : terms[i].z, h = c == 0 ? terms[i].y : terms[i].w;
          const float term = frame.term(again.keys[i][c]), value = again.values[i][c];
          const FramedSums &before = left.of[c], &behind = right_of[i].of[c];
          const float a = fmaf(frame.bonus, q, behind.a + before.a), b = fmaf(frame.bonus, h, behind.b + before.b);
          of_value[c] = term * a;
          of_key[c] = term * fmaf(value, a, -b);
          const float difference = term * fmaf(value, behind.a - before.a, before.b - behind.b);
          moment_[c] += difference;
          moment_by_token_[c] = fmaf(token, difference, moment_by_token_[c]);
          frame.push(left.of[c], q, h);
        }
        again.load(i);
        gk.store_below(of_key, i, count);
        gv.store_below(of_value, i, count);
      }
      gk.advance(1);
      gv.advance(1);
      if (continues && part == kLast - 1) entry_.start(shape_, next(), inputs_, kept_);
    }
  }

  const Shape& shape_;
  const P& place_;
  const Inputs<float, In>& inputs_;
  const ChunkSums<float>& kept_;
  const GradientPointers<float, In>& gradients_;
  Tile tile_;
  PairEntry entry_;
  PairFrames<kTokens> frames_;
  float4* parts_;
  // The thread's shares; those of moments by the numbers of tokens in its segment.
  float gu_[2], moment_[2], moment_by_token_[2];
};

}  // namespace vrwkv::ops::cuda
