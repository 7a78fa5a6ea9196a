#pragma once

// The backward pass over long sequences in float32 with one exponential a token (bi_wkv_framed_backward.cuh), for pairs
// of neighbouring channels of 16-bit tensors. q and h take the places of all that is read of a token, and k and v are
// read once more, from the second cache: so twice as much of all sequences is on the device at once as with single
// channels, and half as often the blocks of a sequence wait for each other. The tokens of a block's next chunk come in
// while gk and gv of this one are written.

#include "ops/cuda/bi_wkv_pair_tile.cuh"

namespace vrwkv::ops::cuda {

/// What a block needs of a chunk besides its tokens, loaded ahead.
struct PairEntry {
  float w[2], u[2];
  Sides<Sums<float>> incoming[2];  ///< What comes in to the chunk.

  template <typename P, typename In>
  __device__ __forceinline__ PairEntry(const Shape& shape, const P& place, const Inputs<float, In>& inputs,
                                       const ChunkSums<float>& kept) {
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      w[c] = inputs.w[place.channel(shape, c)];
      u[c] = inputs.u[place.channel(shape, c)];
      incoming[c] = {load_sums(kept.at(0, place, shape, c)), load_sums(kept.at(1, place, shape, c))};
    }
  }
};

/// A block's work on a chunk of 64 channels.
template <bool kGated, int kTokens, typename In>
class PairGradients {
 public:
  using P = PairPlace<kTokens>;

  /// Of tokens that a block reads before it scans them.
  static int token_bytes(int warps) { return Tile::bytes(warps) / 2; }
  /// Of shared memory.
  static int bytes(int warps) {
    return Tile::bytes(warps) + PairFrames<kTokens>::bytes(warps) + warps * kLanes * static_cast<int>(sizeof(float4));
  }

  __device__ __forceinline__ PairGradients(const Shape& shape, const P& place, char* memory,
                                           const Inputs<float, In>& inputs, const PairEntry& entry,
                                           const GradientPointers<float, In>& gradients)
      : shape_(shape),
        place_(place),
        inputs_(inputs),
        entry_(entry),
        gradients_(gradients),
        tile_(memory, place.warp, place.lane),
        frames_(shape, place, memory + Tile::bytes(shape.warps), entry.w, entry.u) {}

  /// Starts to copy k and v at `place`. Complete after finish_loads().
  static __device__ __forceinline__ void start(const Shape& shape, const P& place, char* memory,
                                               const Inputs<float, In>& inputs) {
    const Tile tile(memory, place.warp, place.lane);
    Copies copies(shape, place);
#pragma unroll 1
    for (int part = 0; part < Tile::kParts; ++part, copies.advance()) copies.start_keys(tile, part, inputs);
  }

  __device__ __forceinline__ bool takes_frames() const { return frames_.fit(); }

  /// The gradients of the chunk, whose k and v are in the tile. Then, if it `continues`, those of `next` come in.
  __device__ __forceinline__ void run(const GlobalSums<float>& global, bool continues, const P& next) {
    start_rest();
    PairSums left, right, marks[Tile::kParts];
    frames_.template scan<kPart>(
        left, right, [&](int first) { return tile_.at(first / kPart, Tile::kKeys); },
        [&](int first) { return tile_.at(first / kPart, Tile::kValues); },
        [&](int first, const PairSums& sums) { marks[first / kPart] = sums; });
    Sides<PairSums> beside = frames_.beside();
    float rescale[2];
#pragma unroll
    for (int c = 0; c < 2; ++c) rescale[c] = frames_.enter(beside, entry_.incoming[c], c);
    finish_loads();
    left = right = PairSums{};
    find_terms(left, right, beside, rescale, marks);
    __syncthreads();  // The segments' forward sums are read; their memory takes the gradient sums.
    frames_.put(left, right);
    __syncthreads();
    beside = frames_.beside();
    frames_.leave(left, right, beside, global,
                  [](const Frame& frame, const FramedSums& sums) { return frame.leave_gradient(sums); });
    meet_sequence(place_, shape_, global);
    auto* const gathered = reinterpret_cast<Sums<float>*>(frames_.sums - place_.lane);
    gather_chunks<false>(place_, shape_, gathered, entry_.w, global);
    __syncthreads();
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      const auto incoming = frames_.of[c].enter_gradient(gathered_sums(place_, shape_, gathered, c));
      const auto sides =
          widen_sides(frames_.of[c], place_, shape_, {beside.left.of[c], beside.right.of[c]}, 1.0f, incoming);
      beside.left.of[c] = sides.left;
      beside.right.of[c] = sides.right;
    }
    write_gradients(beside, marks, continues, next);
  }

  /// Writes the block's parts of the gradients of w and u: sums over the warps, in their order. Nothing else uses the
  /// memory that it does, so it needs no barrier but its own.
  __device__ __forceinline__ void write_parts() const {
    auto* const all = reinterpret_cast<float4*>(frames_.sums) + 2 * shape_.warps * kLanes;
    const int first_token = (place_.chunk * shape_.warps + place_.warp) * kTokens;
    const float first = static_cast<float>(first_token) - 0.5f * static_cast<float>(shape_.tokens - 1);
    float gw[2];
#pragma unroll
    for (int c = 0; c < 2; ++c) gw[c] = fmaf(first, moment_[c], moment_by_token_[c]) - gu_[c];
    all[place_.warp * kLanes] = {gw[0], gu_[0], gw[1], gu_[1]};
    __syncthreads();
    const int c = place_.warp;
    if (c >= 2 || !place_.inside(shape_, c)) return;
    float2 sum{};
#pragma unroll 4
    for (int warp = 0; warp < shape_.warps; ++warp) {
      const float2 part = reinterpret_cast<const float2*>(all + warp * kLanes)[c];
      sum.x += part.x;
      sum.y += part.y;
    }
    gradients_.gw_parts[place_.chunk_index(shape_, c)] = sum.x;
    gradients_.gu_parts[place_.chunk_index(shape_, c)] = sum.y;
  }

 private:
  using Tile = PairTile<kTokens, In>;
  using Copies = PairCopies<kTokens, In>;
  using Pair = Chunk<In, 2>;
  static constexpr int kLast = Tile::kParts - 1;

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
                                             const float (&rescale)[2], PairSums (&marks)[Tile::kParts]) {
    float power[2], step[2], passed[2] = {1.0f, 1.0f}, part_decay[2], half_bonus[2];
    float gu[2]{}, moment[2]{}, moment_by_token[2]{};
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      power[c] = frames_.of[c].power(kTokens - kPart);
      step[c] = frames_.of[c].power(-kPart);
      part_decay[c] = frames_.of[c].power(kPart);
      half_bonus[c] = 0.5f * frames_.of[c].bonus;
    }
    PairSums forward_right = beside.right;
    PairRows<In> gr(shape_, place_, gradients_.gr, gradients_.stride);
    gr.advance(kLast);
    int count = written() - kLast * kPart;
    float token = kLast * kPart;
#pragma unroll 1
    for (int part = kLast; part >= 0; --part, count += kPart, token -= kPart) {
      const PairTerms<In, kPart> own(frames_.of, tile_.at(part, Tile::kKeys), tile_.at(part, Tile::kValues));
      PairSums state = marks[part], left_of[kPart];
      Pair gy[kPart], gates[kPart];
#pragma unroll
      for (int i = 0; i < kPart; ++i) {
        gy[i] = load_chunk<2>(tile_.at(part, Tile::kGradients) + i * Tile::kRow);
        if constexpr (kGated) gates[i] = load_chunk<2>(tile_.at(part, Tile::kGates) + i * Tile::kRow);
      }
      __syncwarp();  // The terms take the places of what other lanes read.
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        state.of[c] = widen(state.of[c], rescale[c], power[c], beside.left.of[c]);
        power[c] *= step[c];
      }
#pragma unroll
      for (int i = 0; i < kPart; ++i) {
        left_of[i] = state;
        frames_.push(state, own, i);
      }
      marks[part] = right;
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
  __device__ __forceinline__ void write_gradients(const Sides<PairSums>& beside, const PairSums (&marks)[Tile::kParts],
                                                  bool continues, const P& next) {
    float power[2], step[2];
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      power[c] = frames_.of[c].power(kTokens - kPart);
      step[c] = frames_.of[c].power(-kPart);
    }
    // Only read.
    PairRows<In> k(shape_, place_, const_cast<In*>(inputs_.k), shape_.channels);
    PairRows<In> v(shape_, place_, const_cast<In*>(inputs_.v), shape_.channels);
    PairRows<In> gk(shape_, place_, gradients_.gk, gradients_.stride);
    PairRows<In> gv(shape_, place_, gradients_.gv, gradients_.stride);
    Copies copies(shape_, next);
    PairSums left = beside.left;
    Pair keys[kPart], values[kPart], next_keys[kPart], next_values[kPart];
    k.load(next_keys, place_.count, -INFINITY);
    v.load(next_values, place_.count, 0.0f);
    int count = written();
    float token = 0.0f;
#pragma unroll 1
    for (int part = 0; part < Tile::kParts; ++part, count -= kPart) {
#pragma unroll
      for (int i = 0; i < kPart; ++i) {
        keys[i] = next_keys[i];
        values[i] = next_values[i];
      }
      if (part < kLast) {
        k.advance(1);
        v.advance(1);
        k.load(next_keys, place_.count - (part + 1) * kPart, -INFINITY);
        v.load(next_values, place_.count - (part + 1) * kPart, 0.0f);
      }
      float4 terms[kPart];
#pragma unroll
      for (int i = 0; i < kPart; ++i) terms[i] = tile_.terms(part)[i * kLanes];
      PairSums state = marks[part], right_of[kPart];
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        state.of[c] = widen(state.of[c], 1.0f, power[c], beside.right.of[c]);
        power[c] *= step[c];
      }
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
          const float term = frame.term(keys[i][c]), value = values[i][c];
          const FramedSums &before = left.of[c], &behind = right_of[i].of[c];
          const float a = fmaf(frame.bonus, q, behind.a + before.a), b = fmaf(frame.bonus, h, behind.b + before.b);
          of_value[c] = term * a;
          of_key[c] = term * fmaf(value, a, -b);
          const float difference = term * fmaf(value, behind.a - before.a, before.b - behind.b);
          moment_[c] += difference;
          moment_by_token_[c] = fmaf(token, difference, moment_by_token_[c]);
          frame.push(left.of[c], q, h);
        }
        gk.store_below(of_key, i, count);
        gv.store_below(of_value, i, count);
      }
      gk.advance(1);
      gv.advance(1);
    }
  }

  const Shape& shape_;
  const P& place_;
  const Inputs<float, In>& inputs_;
  const PairEntry& entry_;
  const GradientPointers<float, In>& gradients_;
  Tile tile_;
  PairFrames<kTokens> frames_;
  // The thread's shares; those of moments by the numbers of tokens in its segment.
  float gu_[2], moment_[2], moment_by_token_[2];
};

}  // namespace vrwkv::ops::cuda
