#pragma once

// Bi-WKV in float32 with one exponential a token.
//
// All sums of a block of tokens are kept relative to one power of two for each channel, its frame: the largest of the
// block's keys and of the sums that come in from outside. Every token sees every term, so the sum of a token lies
// within e^{+-(|w| tokens + |u|)} of e^{frame}: where that is bounded (fits()), nothing that counts can under- or
// overflow, whatever the keys are. What remains are the scans a <- a e^{-w} + e^{k_i} v_i and b <- b e^{-w} + e^{k_i}.
//
// A segment is scanned with nothing coming in, for what others need of it; then again, part by part, with what comes in
// from its left and right. k, v and what the backward pass reads wait in shared memory. Code that loops over parts,
// keeps little in registers and stores without branches was a sixth faster than scans of all tokens in a row.

#include "ops/cuda/bi_wkv_exchange.cuh"
#include "ops/cuda/bi_wkv_tiles.cuh"
#include "ops/cuda/fast_math.cuh"

namespace vrwkv::ops::cuda {

/// Sums relative to the frame.
struct alignas(8) FramedSums {
  float a, b;
};

/// The frame of one channel, and the decays of its sums.
class Frame {
 public:
  /// For segments of `tokens` tokens.
  __device__ Frame(float w, float u, int tokens)
      : decay(fast_exp2(-w * kLog2e)),
        inverse_decay(fast_exp2(w * kLog2e)),
        segment_decay(fast_exp2(-w * (static_cast<float>(tokens) * kLog2e))),
        bonus(fast_exp2(u * kLog2e)),
        w_(w),
        u_(u) {}

  /// Whether the sums of a block of `block` tokens, of `tokens` in all, keep within float32. For w < 0 the sums that
  /// come in from outside may exceed the block's own by e^{|w| tokens}; for w > 0 it is the gradient of w, a sum over
  /// positions, that would lose digits if the attention spanned only a hundredth of the sequence. False for NaN. Both
  /// passes have to find alike, to the last bit: the backward pass reads what only this way keeps.
  __device__ bool fits(int block, int64_t tokens) const {
    const auto length = static_cast<float>(tokens), span = static_cast<float>(block);
    const float reach = w_ < 0.0f ? -w_ * fmaxf(length, span) : w_ * span;
    return __fadd_rn(reach, fabsf(u_)) <= 40.0f && w_ * length <= 200.0f;
  }

  /// The decay over `tokens` tokens.
  __device__ float power(int tokens) const { return fast_exp2(-w_ * (static_cast<float>(tokens) * kLog2e)); }

  __device__ void set(float largest) { frame_ = ceilf(largest * kLog2e); }
  /// Takes what value() was.
  __device__ void restore(float value) { frame_ = value; }
  __device__ float value() const { return frame_; }
  __device__ float w() const { return w_; }
  /// e^k in the frame.
  __device__ float term(float k) const { return fast_exp2(fmaf(k, kLog2e, -frame_)); }

  /// Raises the frame to the sums from outside, which have no n, if these are larger.
  __device__ void raise(const Sides<Sums<float>>& incoming) {
    frame_ = fmaxf(frame_, ceilf(kLog2e * fmaxf(incoming.left.key, incoming.right.key)));
  }

  // Between the frame and the form in which chunks exchange their sums.
  __device__ Sums<float> leave(const FramedSums& s) const { return {s.a, s.b, frame_ * kLn2, 0.0f}; }
  __device__ Sums<float> leave_gradient(const FramedSums& s) const { return {s.a, s.b, -frame_ * kLn2, 0.0f}; }
  __device__ Sides<FramedSums> enter(const Sides<Sums<float>>& sums) const {
    return {scaled(sums.left, -frame_), scaled(sums.right, -frame_)};
  }
  __device__ Sides<FramedSums> enter_gradient(const Sides<Sums<float>>& sums) const {
    return {scaled(sums.left, frame_), scaled(sums.right, frame_)};
  }

  /// The power of 2 by which to multiply what leave() or leave_gradient() left of another chunk, with so many tokens
  /// between.
  __device__ float exponent(const Sums<float>& sums, float between) const {
    return fmaf(kLog2e, fmaf(-w_, between, sums.key), -frame_);
  }
  __device__ float gradient_exponent(const Sums<float>& sums, float between) const {
    return fmaf(kLog2e, fmaf(-w_, between, sums.key), frame_);
  }

  /// Moves `state` on by one token and adds its term.
  __device__ void push(FramedSums& state, float a, float b) const {
    state.a = fmaf(state.a, decay, a);
    state.b = fmaf(state.b, decay, b);
  }
  /// Moves `state` over a segment and adds the segment's sums.
  __device__ void join(FramedSums& state, const FramedSums& segment) const {
    state.a = fmaf(state.a, segment_decay, segment.a);
    state.b = fmaf(state.b, segment_decay, segment.b);
  }

  float decay, inverse_decay, segment_decay;  ///< e^{-w}, e^{w}, and the decay over a segment.
  float bonus;                                ///< e^{u}

 private:
  static constexpr float kLog2e = 1.4426950408889634f;
  static constexpr float kLn2 = 0.6931471805599453f;
  __device__ FramedSums scaled(const Sums<float>& sums, float offset) const {
    const float scale = fast_exp2(fmaf(kLog2e, sums.key, offset));
    return {sums.a * scale, sums.b * scale};
  }

  float w_, u_;
  float frame_ = 0.0f;  ///< In powers of 2, an integer, so that a change of frame rounds nothing.
};

/// Whether all channels of the block take a frame, as all its warps find alike.
template <typename P>
__device__ __forceinline__ bool takes_frame(const Frame& frame, const Shape& shape) {
  return __all_sync(0xffffffffU, frame.fits(shape.warps * P::kTokens, shape.tokens)) != 0;
}

/// Sets the frame to the largest key of the block, from each thread's column of keys, unless all segments of the
/// channel `fit` as they are. All threads of the block call it.
template <typename P, typename In>
__device__ __forceinline__ void set_frame(Frame& frame, bool fits, const In* k, const P& place,
                                          const SharedMemory<float>& shared) {
  float largest = empty_key<float>();
#pragma unroll kPart
  for (int i = 0; i < P::kTokens; ++i) largest = fmaxf(largest, static_cast<float>(k[i * kLanes]));
  float* all = shared.largest() + place.lane;
  const auto meet = [&](float value, const auto& join) {
    __syncthreads();
    all[place.warp * kLanes] = value;
    __syncthreads();
#pragma unroll 4
    for (int warp = 0; warp < shared.warps; ++warp) value = join(value, all[warp * kLanes]);
    return value;
  };
  largest = meet(largest, [](float x, float y) { return fmaxf(x, y); });
  if (meet(fits ? 1.0f : 0.0f, [](float x, float y) { return fminf(x, y); }) == 0.0f) frame.set(largest);
}

/// The scans of a segment's terms (a, b), given in ascending order.
struct SegmentScan {
  FramedSums from_left{0.0f, 0.0f}, from_right{0.0f, 0.0f};
  float passed = 1.0f;  ///< Decay over the tokens so far.
  __device__ __forceinline__ void add(const Frame& frame, float a, float b) {
    frame.push(from_left, a, b);
    from_right = {fmaf(passed, a, from_right.a), fmaf(passed, b, from_right.b)};
    passed *= frame.decay;
  }
};

/// scale * local + power * incoming: the sums beside a token from those of its segment alone and what comes in.
__device__ __forceinline__ FramedSums widen(const FramedSums& local, float scale, float power,
                                            const FramedSums& incoming) {
  return {fmaf(power, incoming.a, scale * local.a), fmaf(power, incoming.b, scale * local.b)};
}

/// What the block has left and right of this segment, whose sums all have put.
template <typename P>
__device__ __forceinline__ Sides<FramedSums> beside_segment(const Frame& frame, const P& place,
                                                            const SharedMemory<float>& shared) {
  Sides<FramedSums> beside{{0.0f, 0.0f}, {0.0f, 0.0f}};
  join_segments(beside, place, shared,
                [&](FramedSums& state, const FramedSums& segment) { frame.join(state, segment); });
  return beside;
}

/// The same, with what comes in from outside.
template <typename P>
__device__ __forceinline__ Sides<FramedSums> widen_sides(const Frame& frame, const P& place, const Shape& shape,
                                                         const Sides<FramedSums>& beside, float scale,
                                                         const Sides<FramedSums>& incoming) {
  return {widen(beside.left, scale, frame.power(place.warp * P::kTokens), incoming.left),
          widen(beside.right, scale, frame.power((place.warps(shape) - 1 - place.warp) * P::kTokens), incoming.right)};
}

/// What stands left and right of a segment, and what sums of the segment alone have to be multiplied by to be in the
/// same frame.
struct SegmentSides {
  Sides<FramedSums> sides;
  float rescale = 1.0f;
};

/// Adds to what the block has beside a segment what comes in from other chunks, which may raise the frame.
template <typename P>
__device__ __forceinline__ void widen_segment(SegmentSides& segment, Frame& frame, const P& place, const Shape& shape,
                                              const Sides<Sums<float>>& incoming) {
  const float old_frame = frame.value();
  frame.raise(incoming);
  segment.rescale = fast_exp2(old_frame - frame.value());
  segment.sides = widen_sides(frame, place, shape, segment.sides, segment.rescale, frame.enter(incoming));
}

/// Leaves the block's sums for others, of which `own` is this segment's share; `beside` is what beside_segment() gave.
template <typename P>
__device__ __forceinline__ void leave_framed(const Frame& frame, const P& place, const Shape& shape,
                                             const GlobalSums<float>& global, const Sides<FramedSums>& beside,
                                             const Sides<FramedSums>& own) {
  leave_chunk(
      place, shape, global, beside, own,
      [&](FramedSums& state, const FramedSums& segment) { frame.join(state, segment); },
      [&](const FramedSums& state) { return frame.leave(state); });
}

/// Sums beside the parts of a segment: left as they come, taken last first. They shift through registers, which have no
/// index. The parts are steps of a loop since the code of all tokens in a row would not fit the caches of instructions,
/// of which every warp needs another place.
template <int kTokens, typename State = FramedSums>
class Marks {
 public:
  __device__ __forceinline__ void leave(const State& sums) {
#pragma unroll
    for (int i = 0; i < kCount - 1; ++i) marks_[i] = marks_[i + 1];
    marks_[kCount - 1] = sums;
  }
  /// None at the end, beside the outermost part.
  __device__ __forceinline__ State take() {
    const State last = marks_[kCount - 1];
#pragma unroll
    for (int i = kCount - 1; i > 0; --i) marks_[i] = marks_[i - 1];
    marks_[0] = State{};
    return last;
  }

 private:
  static constexpr int kCount = kTokens / kPart - 1;
  static_assert(kTokens % kPart == 0 && kCount > 0);
  State marks_[kCount]{};
};

/// Powers of 2 by which sums may differ from their frame without another one.
constexpr float kModerate = 16.0f;

/// Whether a segment's sums b in both directions keep so far from the ends of float32 that they need no frame, as those
/// of most keys do.
__device__ __forceinline__ bool is_moderate(float left, float right) {
  constexpr float kLarge = 1 << static_cast<int>(kModerate), kSmall = 1.0f / kLarge;
  return fminf(left, right) > kSmall && fmaxf(left, right) < kLarge;
}

/// A segment's sums in both directions, nothing coming in, and those left of its parts.
template <int kTokens>
struct MarkedScan {
  Sides<FramedSums> own;
  Marks<kTokens> marks;

  template <typename In>
  __device__ __forceinline__ void run(const Frame& frame, const In* k, const In* v) {
    SegmentScan scan;
#pragma unroll 1
    for (int first = 0; first < kTokens; first += kPart) {
      if (first > 0) marks.leave(scan.from_left);
#pragma unroll
      for (int i = 0; i < kPart; ++i) {
        const float term = frame.term(static_cast<float>(k[(first + i) * kLanes]));
        scan.add(frame, term * static_cast<float>(v[(first + i) * kLanes]), term);
      }
    }
    own = {scan.from_left, scan.from_right};
  }
};

/// Scans the segment and puts its sums where the block's others see them: in the frame 1 if all segments' sums are
/// moderate in it, else in that of the largest key. Finding that would cost every block a pass over its keys.
template <typename P, typename In>
__device__ __forceinline__ void scan_segment(MarkedScan<P::kTokens>& scan, Frame& frame, const P& place, const In* k,
                                             const In* v, const SharedMemory<float>& shared) {
#pragma unroll 1
  for (bool framed = false;; framed = true) {
    scan.run(frame, k, v);
    put_segment(scan.own.left, scan.own.right, place, shared);
    const bool fits = framed || place.count == 0 || is_moderate(scan.own.left.b, scan.own.right.b);
    if (__syncthreads_and(static_cast<int>(fits)) != 0) return;
    set_frame(frame, fits, k, place, shared);
  }
}

/// A part's terms e^k and e^k v, and the sums left of its tokens.
struct PartTerms {
  float e[kPart], ev[kPart];
  FramedSums left[kPart];

  /// k and v at the part's first token; `state`: the sums left of it.
  template <typename In>
  __device__ __forceinline__ PartTerms(const Frame& frame, const In* k, const In* v, FramedSums state) {
#pragma unroll
    for (int i = 0; i < kPart; ++i) {
      e[i] = frame.term(static_cast<float>(k[i * kLanes]));
      ev[i] = e[i] * static_cast<float>(v[i * kLanes]);
      left[i] = state;
      frame.push(state, ev[i], e[i]);
    }
  }

  /// y = a / b of token i with `right` of it.
  __device__ __forceinline__ FramedSums output(const Frame& frame, int i, const FramedSums& right) const {
    return {fmaf(frame.bonus, ev[i], left[i].a + right.a), fmaf(frame.bonus, e[i], left[i].b + right.b)};
  }
};

/// Keeps what stands left and right of part `part` of a thread's segment, if that is the first or the last of one of
/// the backward pass's. `Both`: FramedSums of each of the thread's channels.
template <typename P, typename Both>
__device__ __forceinline__ void keep_beside(const P& place, const Shape& shape, const KeptSums<float>& kept, int part,
                                            const Both& left, const Both& right) {
  if (!place.is_inside(shape)) return;
  constexpr int kParts = BackwardPairs<float>::kTokens / kPart;
  part += place.warp * (P::kTokens / kPart);
  const auto store = [&](int direction, const Both& sums) {
    const int segment = place.chunk * BackwardPairs<float>::kWarps + part / kParts;
    *reinterpret_cast<Both*>(kept.at_beside(direction, place.b, segment, shape, place.first_channel())) = sums;
  };
  if (part % kParts == 0) store(0, left);
  if (part % kParts == kParts - 1) store(1, right);
}

/// y of a segment's tokens, from all that stands left and right of the segment, part by part.
/// kKeeps: also keep_beside().
template <bool kGated, bool kKeeps, typename P, typename In>
__device__ __forceinline__ void write_outputs(const Shape& shape, const P& place, const Frame& frame,
                                              const ForwardTiles<In, P::kTokens>& tiles, Marks<P::kTokens>& marks,
                                              const SegmentSides& segment, const KeptSums<float>& kept, In* y) {
  constexpr int kTokens = P::kTokens;
  const int written = place.inside ? place.count : 0;
  FramedSums right = segment.sides.right;
  float power = frame.power(kTokens - kPart);
  const float power_step = frame.power(-kPart);
  In* out = y + place.first_element + (kTokens - 1) * shape.channels;
#pragma unroll 1
  for (int first = kTokens - kPart; first >= 0; first -= kPart) {
    const FramedSums left = widen(marks.take(), segment.rescale, power, segment.sides.left);
    const PartTerms part(frame, tiles.k + first * kLanes, tiles.v + first * kLanes, left);
    power *= power_step;
    if constexpr (kKeeps) keep_beside(place, shape, kept, first / kPart, left, right);
#pragma unroll
    for (int i = kPart - 1; i >= 0; --i) {
      FramedSums output = part.output(frame, i, right);
      // Times 1 / (1 + e^{-r}), in one division.
      if constexpr (kGated) {
        output.b = fmaf(output.b, fast_exp(-static_cast<float>(tiles.r[(first + i) * kLanes])), output.b);
      }
      store_below(out, static_cast<In>(output.a * fast_reciprocal(output.b)), first + i, written);
      out -= shape.channels;
      frame.push(right, part.ev[i], part.e[i]);
    }
  }
}

/// The forward pass of a chunk. False, and nothing written, if a channel of the block takes no frame.
template <Exchange kExchange, bool kGated, bool kKeeps, typename P, typename In>
__device__ __forceinline__ bool framed_forward(const Shape& shape, const P& place, const SharedMemory<float>& shared,
                                               const Inputs<float, In>& inputs, const GlobalSums<float>& global,
                                               const KeptSums<float>& kept, In* y) {
  const float w = inputs.w[place.channel];
  Frame frame(w, inputs.u[place.channel], P::kTokens);
  if (!takes_frame<P>(frame, shape)) return false;
  const ForwardTiles<In, P::kTokens> tiles(shared.tiles(), place, shape.warps);
  const SegmentCopies<P, In> copies(place, shape);
  copies.template start<kLanes>(tiles.k, inputs.k, static_cast<In>(-INFINITY));  // So a missing term vanishes.
  copies.template start<kLanes>(tiles.v, inputs.v, static_cast<In>(0.0f));
  if constexpr (kGated) copies.template start<kLanes>(tiles.r, inputs.r, static_cast<In>(0.0f));
  if constexpr (kExchange == Exchange::former) gather_chunks<true>(place, shape, shared.gathered(), {w}, global);
  finish_loads();
  MarkedScan<P::kTokens> scan;
  scan_segment(scan, frame, place, tiles.k, tiles.v, shared);
  SegmentSides segment{beside_segment(frame, place, shared)};
  if constexpr (kExchange == Exchange::running) {
    leave_framed(frame, place, shape, global, segment.sides, scan.own);
    meet_sequence(place, shape, global);
    gather_chunks<true>(place, shape, shared.gathered(), {w}, global);
    __syncthreads();
  }
  if constexpr (kExchange != Exchange::none) {
    const Sides<Sums<float>> incoming = gathered_sums(place, shape, shared.gathered());
    keep_incoming(place, shape, kept, incoming);
    widen_segment(segment, frame, place, shape, incoming);
  }
  if (kKeeps && place.inside && place.warp == 0) kept.frames[place.chunk_index(shape)] = frame.value();
  write_outputs<kGated, kKeeps>(shape, place, frame, tiles, scan.marks, segment, kept, y);
  return true;
}

/// Leaves the sums of a chunk. False, and nothing written, if a channel of the block takes no frame.
template <typename P, typename In>
__device__ __forceinline__ bool framed_totals(const Shape& shape, const P& place, const SharedMemory<float>& shared,
                                              const Inputs<float, In>& inputs, const GlobalSums<float>& totals) {
  Frame frame(inputs.w[place.channel], inputs.u[place.channel], P::kTokens);
  if (!takes_frame<P>(frame, shape)) return false;
  const ForwardTiles<In, P::kTokens> tiles(shared.tiles(), place, shape.warps);
  const SegmentCopies<P, In> copies(place, shape);
  copies.template start<kLanes>(tiles.k, inputs.k, static_cast<In>(-INFINITY));
  copies.template start<kLanes>(tiles.v, inputs.v, static_cast<In>(0.0f));
  finish_loads();
  MarkedScan<P::kTokens> scan;
  scan_segment(scan, frame, place, tiles.k, tiles.v, shared);
  leave_framed(frame, place, shape, totals, beside_segment(frame, place, shared), scan.own);
  return true;
}

}  // namespace vrwkv::ops::cuda
