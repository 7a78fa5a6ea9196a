#pragma once

// Bi-WKV in float32 with one exponential a token.
//
// All sums of a block of tokens are kept relative to one power of two for each channel, its frame: the largest of the
// block's keys and of the sums that come in from outside. Every token sees every term, so the sum of a token lies
// within e^{+-(|w| tokens + |u|)} of e^{frame}: where that is bounded (fits()), nothing that counts can under- or
// overflow, whatever the keys are. What remains are the scans a <- a e^{-w} + e^{k_i} v_i and b <- b e^{-w} + e^{k_i}.
//
// A segment's scan runs once with nothing coming in; what does come in from its left or right is added to each token's
// sum later, times the decay over the tokens between. k, v and what the backward pass reads wait in shared memory.

#include "ops/cuda/bi_wkv_block.cuh"
#include "ops/cuda/bi_wkv_tiles.cuh"
#include "ops/cuda/fast_math.cuh"

namespace vrwkv::ops::cuda {

/// Sums relative to the frame.
struct FramedSums {
  float a, b;
};

/// The frame of one channel, and the decays of its sums.
class Frame {
 public:
  /// Whether the sums of a block of `block` tokens, of `tokens` in all, keep within float32. For w < 0 the sums that
  /// come in from outside may exceed the block's own by e^{|w| tokens}; for w > 0 it is the gradient of w, a sum over
  /// positions, that would lose digits if the attention spanned only a hundredth of the sequence. False for NaN.
  static __device__ bool fits(float w, float u, int block, int64_t tokens) {
    const auto length = static_cast<float>(tokens), span = static_cast<float>(block);
    const float reach = w < 0.0f ? -w * fmaxf(length, span) : w * span;
    return reach + fabsf(u) <= 40.0f && w * length <= 200.0f;
  }

  /// For segments of `tokens` tokens.
  __device__ Frame(float w, float u, int tokens)
      : decay(exp2f(-w * kLog2e)),
        inverse_decay(exp2f(w * kLog2e)),
        segment_decay(exp2f(-w * (static_cast<float>(tokens) * kLog2e))),
        bonus(exp2f(u * kLog2e)),
        w_(w) {}

  /// The decay over `tokens` tokens.
  __device__ float power(int tokens) const { return exp2f(-w_ * (static_cast<float>(tokens) * kLog2e)); }

  __device__ void set(float largest) { frame_ = ceilf(largest * kLog2e); }
  /// e^k in the frame.
  __device__ float term(float k) const { return fast_exp2(fmaf(k, kLog2e, -frame_)); }

  /// Raises the frame to the sums from outside, if these are larger; returns what all sums have to be multiplied by.
  __device__ float raise(const Sides<Sums<float>>& incoming) {
    const float left = incoming.left.key - incoming.left.n * w_, right = incoming.right.key - incoming.right.n * w_;
    const float frame = fmaxf(frame_, ceilf(kLog2e * fmaxf(left, right)));
    const float rescale = fast_exp2(frame_ - frame);
    frame_ = frame;
    return rescale;
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
    const float scale = fast_exp2(fmaf(kLog2e, sums.key - sums.n * w_, offset));
    return {sums.a * scale, sums.b * scale};
  }

  float w_;
  float frame_ = 0.0f;  ///< In powers of 2, an integer, so that a change of frame rounds nothing.
};

/// Sets the frame to the largest key of the block, from the `kTokens` keys of each thread, `stride` apart. All threads
/// of the block call it.
template <typename P, typename In>
__device__ __forceinline__ void set_frame(Frame& frame, const In* k, int stride, const P& place,
                                          const SharedMemory<float>& shared) {
  float largest = empty_key<float>();
#pragma unroll
  for (int i = 0; i < P::kTokens; ++i) largest = fmaxf(largest, static_cast<float>(k[i * stride]));
  float* all = shared.largest() + place.lane;
  all[place.warp * kLanes] = largest;
  __syncthreads();
#pragma unroll 4
  for (int warp = 0; warp < shared.warps; ++warp) largest = fmaxf(largest, all[warp * kLanes]);
  frame.set(largest);
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

/// What stands left and right of a segment, and what its own sums have to be multiplied by to be in the same frame.
struct SegmentSides {
  Sides<FramedSums> sides{{0.0f, 0.0f}, {0.0f, 0.0f}};
  float rescale = 1.0f;
};

/// After put_segment() of the forward sums.
template <Exchange kExchange, typename P>
__device__ __forceinline__ SegmentSides forward_sides(Frame& frame, const P& place, const Shape& shape,
                                                      const SharedMemory<float>& shared, float w,
                                                      const GlobalSums<float>& global) {
  SegmentSides result;
  if constexpr (kExchange == Exchange::none) {
    join_segments(result.sides, place, shared,
                  [&](FramedSums& state, const FramedSums& segment) { frame.join(state, segment); });
  } else {
    const auto incoming = exchange_chunks<kExchange>(
        place, shape, shared, w, global, FramedSums{0.0f, 0.0f},
        [&](FramedSums& state, const FramedSums& segment) { frame.join(state, segment); },
        [&](const FramedSums& state) { return frame.leave(state); });
    result.rescale = frame.raise(incoming);
    result.sides = frame.enter(incoming);
    join_segments(result.sides, place, shared, [&](FramedSums& state, const FramedSums& segment) {
      frame.join(state, {segment.a * result.rescale, segment.b * result.rescale});
    });
  }
  return result;
}

/// y and 1 / denominator of a token with `left` and `right` of it, and of its own term e^{u + k}.
struct FramedOutput {
  float y, inverse, own;
  __device__ FramedOutput(const FramedSums& left, const FramedSums& right, float own_in, float v) : own(own_in) {
    inverse = fast_reciprocal(left.b + right.b + own);
    y = (fmaf(own, v, left.a) + right.a) * inverse;
  }
};

/// scale * local + power * incoming: the sums beside a token from those of its segment alone and what comes in.
__device__ __forceinline__ FramedSums widen(const FramedSums& local, float scale, float power,
                                            const FramedSums& incoming) {
  return {fmaf(power, incoming.a, scale * local.a), fmaf(power, incoming.b, scale * local.b)};
}

template <Exchange kExchange, bool kGated, typename P, typename In>
__device__ __forceinline__ void framed_forward(const Shape& shape, const P& place, const SharedMemory<float>& shared,
                                               const Inputs<float, In>& inputs, const GlobalSums<float>& global,
                                               In* y) {
  constexpr int kTokens = P::kTokens;
  const ForwardTiles<In, P::kTokens> tiles(shared.tiles(), place, shape.warps);
  load_segment<kLanes>(tiles.k, inputs.k, static_cast<In>(-INFINITY), place, shape);  // So a missing term vanishes.
  load_segment<kLanes>(tiles.v, inputs.v, static_cast<In>(0.0f), place, shape);
  if constexpr (kGated) load_segment<kLanes>(tiles.r, inputs.r, static_cast<In>(0.0f), place, shape);
  const float w = inputs.w[place.channel];
  Frame frame(w, inputs.u[place.channel], kTokens);
  finish_loads();
  set_frame(frame, tiles.k, kLanes, place, shared);

  float e[kTokens];          // e^{k}
  FramedSums left[kTokens];  // Sums left of each token, of this segment alone.
  SegmentScan scan;
#pragma unroll
  for (int i = 0; i < kTokens; ++i) {
    e[i] = frame.term(static_cast<float>(tiles.k[i * kLanes]));
    left[i] = scan.from_left;
    scan.add(frame, e[i] * static_cast<float>(tiles.v[i * kLanes]), e[i]);
  }
  put_segment(scan.from_left, scan.from_right, place, shared);
  const auto [sides, rescale] = forward_sides<kExchange>(frame, place, shape, shared, w, global);

  FramedSums right = sides.right;
  float power = frame.power(kTokens - 1);
  const int written = place.inside ? place.count : 0;
  In* out = y + place.first_element + (kTokens - 1) * shape.channels;
#pragma unroll
  for (int i = kTokens - 1; i >= 0; --i) {
    const float term = kExchange == Exchange::none ? e[i] : e[i] * rescale;
    const float local = kExchange == Exchange::none ? 1.0f : rescale;
    const float v = static_cast<float>(tiles.v[i * kLanes]);
    const FramedOutput token(widen(left[i], local, power, sides.left), right, frame.bonus * term, v);
    const float gate = kGated ? sigmoid(static_cast<float>(tiles.r[i * kLanes])) : 1.0f;
    if (i < written) *out = static_cast<In>(token.y * gate);
    out -= shape.channels;
    frame.push(right, term * v, term);
    power *= frame.inverse_decay;
  }
}

/// The sums of a chunk in both directions.
template <typename P, typename In>
__device__ __forceinline__ void framed_totals(const Shape& shape, const P& place, const SharedMemory<float>& shared,
                                              const Inputs<float, In>& inputs, const GlobalSums<float>& totals) {
  const ForwardTiles<In, P::kTokens> tiles(shared.tiles(), place, shape.warps);
  load_segment<kLanes>(tiles.k, inputs.k, static_cast<In>(-INFINITY), place, shape);
  load_segment<kLanes>(tiles.v, inputs.v, static_cast<In>(0.0f), place, shape);
  Frame frame(inputs.w[place.channel], inputs.u[place.channel], P::kTokens);
  finish_loads();
  set_frame(frame, tiles.k, kLanes, place, shared);
  SegmentScan scan;
#pragma unroll
  for (int i = 0; i < P::kTokens; ++i) {
    const float term = frame.term(static_cast<float>(tiles.k[i * kLanes]));
    scan.add(frame, term * static_cast<float>(tiles.v[i * kLanes]), term);
  }
  put_segment(scan.from_left, scan.from_right, place, shared);
  total_segments(
      place, shared, FramedSums{0.0f, 0.0f},
      [&](FramedSums& state, const FramedSums& sums) { frame.join(state, sums); },
      [&](int direction, const FramedSums& state) {
        if (place.inside) totals.at(direction, place, shape) = frame.leave(state);
      });
}

}  // namespace vrwkv::ops::cuda
