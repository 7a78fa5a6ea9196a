#pragma once

#include "ops/cuda/bi_wkv_framed.cuh"

namespace vrwkv::ops::cuda {

// The gradient of w without distances and in one pass. With A_t the part of token t's gradient terms that meets the
// terms left of it, q_t (L_t - y_t L'_t), A'_t that on its right, B_i and B'_i the parts of gk_i from readers right and
// left of it, each pair (i, t) adds the same amount to its A and to its B, and its distance times that amount to gw. So
// gw is sum_t t (B_t - B'_t - A_t + A'_t) - gu; and since A_t + A'_t = -own_t, the difference of the A is -2 A_t -
// own_t. The four sums of the parts cancel, so positions may be counted from any origin: the middle keeps them small.

/// All gradients of one thread's tokens; with kTotalsOnly, no more than the chunk's sums of gradient terms, left in
/// `global`. The chunk's forward pass is repeated: reading k and v again costs less than any sums of tokens. False, and
/// nothing written, if a channel of the block takes no frame.
template <Exchange kExchange, bool kGated, bool kTotalsOnly, typename P, typename In>
__device__ __forceinline__ bool framed_backward(const Shape& shape, const P& place, const SharedMemory<float>& shared,
                                                const Inputs<float, In>& inputs, const ChunkSums<float>& kept,
                                                const GlobalSums<float>& global,
                                                const GradientPointers<float, In>& gradients) {
  constexpr int kTokens = P::kTokens;
  using Tiles = BackwardTiles<In, kTokens, kTotalsOnly>;
  const float w = inputs.w[place.channel];
  Frame frame(w, inputs.u[place.channel], kTokens);
  if (!takes_frame<P>(frame, shape)) return false;
  const Tiles tiles(shared.tiles(), place, shape.warps);
  const SegmentCopies<P, In> copies(place, shape);
  copies.template start<kLanes>(tiles.k, inputs.k, static_cast<In>(-INFINITY));
  copies.template start<kLanes>(tiles.v, inputs.v, static_cast<In>(0.0f));
  copies.template start<Tiles::kRow>(tiles.gy, gradients.gy, static_cast<In>(0.0f));
  if constexpr (kGated) copies.template start<Tiles::kRow>(tiles.r, inputs.r, static_cast<In>(0.0f));
  if constexpr (kExchange == Exchange::former && !kTotalsOnly)
    gather_chunks<false>(place, shape, shared.gathered(), {w}, global);
  Sides<Sums<float>> beside_chunk;
  if constexpr (kExchange != Exchange::none) beside_chunk = kept_incoming(place, shape, kept);
  finish_loads();
  MarkedScan<kTokens> scan;
  scan_segment(scan, frame, place, tiles.k, tiles.v, shared);
  SegmentSides segment{beside_segment(frame, place, shared)};
  if constexpr (kExchange != Exchange::none) widen_segment(segment, frame, place, shape, beside_chunk);

  // From right to left: outputs, gr, and the scans of the gradient terms q and h, which take the places of gy and r.
  const int written = place.inside ? place.count : 0;
  const float power_step = frame.power(-kPart);
  float gu = 0.0f, moment = 0.0f, moment_by_token = 0.0f;
  float power = frame.power(kTokens - kPart);
  FramedSums right = segment.sides.right;
  SegmentScan readers;
  Marks<kTokens> readers_marks;
  const int64_t first_gradient = place.first_row * gradients.stride + place.channel;
  In* gr = kGated ? gradients.gr + (first_gradient + (kTokens - 1) * gradients.stride) : nullptr;
#pragma unroll 1
  for (int first = kTokens - kPart; first >= 0; first -= kPart) {
    const PartTerms part(frame, tiles.k + first * kLanes, tiles.v + first * kLanes,
                         widen(scan.marks.take(), segment.rescale, power, segment.sides.left));
    power *= power_step;
    if (first < kTokens - kPart) readers_marks.leave(readers.from_left);
    float gradient[kPart], gate[kPart];
#pragma unroll
    for (int i = 0; i < kPart; ++i) {
      gradient[i] = static_cast<float>(tiles.gy[(first + i) * Tiles::kRow]);
      gate[i] = kGated ? sigmoid(static_cast<float>(tiles.r[(first + i) * Tiles::kRow])) : 1.0f;
    }
    __syncwarp();  // Rows of q and h are those of several lanes' gy and r.
#pragma unroll
    for (int i = kPart - 1; i >= 0; --i) {
      const FramedSums output = part.output(frame, i, right);
      const float inverse = fast_reciprocal(output.b), y = output.a * inverse;
      if constexpr (kGated) {
        gradient[i] *= gate[i];
        if constexpr (!kTotalsOnly) {
          store_below(gr, static_cast<In>(gradient[i] * y * (1.0f - gate[i])), first + i, written);
          gr -= gradients.stride;
        }
      }
      const float q = gradient[i] * inverse, h = q * y;
      if constexpr (!kTotalsOnly) {
        tiles.q()[(first + i) * kLanes] = q;
        tiles.h()[(first + i) * kLanes] = h;
        const float own = frame.bonus * fmaf(part.ev[i], q, -part.e[i] * h);
        const float difference = fmaf(-2.0f, fmaf(q, part.left[i].a, -h * part.left[i].b), -own);
        gu += own;
        moment += difference;
        moment_by_token = fmaf(static_cast<float>(first + i), difference, moment_by_token);
      }
      readers.add(frame, q, h);
      frame.push(right, part.ev[i], part.e[i]);
    }
  }
  __syncthreads();  // The segments' forward sums are read; their memory takes the gradient sums.
  const Sides<FramedSums> own{readers.from_right, readers.from_left};  // The scan ran from right to left.
  put_segment(own.left, own.right, place, shared);
  __syncthreads();
  Sides<FramedSums> sides = beside_segment(frame, place, shared);
  if constexpr (kTotalsOnly || kExchange == Exchange::running) {
    leave_chunk(
        place, shape, global, sides, own, [&](FramedSums& state, const FramedSums& sums) { frame.join(state, sums); },
        [&](const FramedSums& state) { return frame.leave_gradient(state); });
  }
  if constexpr (kTotalsOnly) return true;
  if constexpr (kExchange == Exchange::running) {
    meet_sequence(place, shape, global);
    gather_chunks<false>(place, shape, shared.gathered(), {w}, global);
    __syncthreads();
  }
  if constexpr (kExchange != Exchange::none) {
    const auto incoming = frame.enter_gradient(gathered_sums(place, shape, shared.gathered()));
    sides = widen_sides(frame, place, shape, sides, 1.0f, incoming);
  }

  // From left to right: gk and gv.
  power = frame.power(kTokens - kPart);
  FramedSums left = sides.left;
  In* gk = gradients.gk + first_gradient;
  In* gv = gradients.gv + first_gradient;
#pragma unroll 1
  for (int first = 0; first < kTokens; first += kPart) {
    FramedSums right_of[kPart], state = widen(readers_marks.take(), 1.0f, power, sides.right);
    float q[kPart], h[kPart];
    power *= power_step;
#pragma unroll
    for (int i = kPart - 1; i >= 0; --i) {
      q[i] = tiles.q()[(first + i) * kLanes];
      h[i] = tiles.h()[(first + i) * kLanes];
      right_of[i] = state;
      frame.push(state, q[i], h[i]);
    }
#pragma unroll
    for (int i = 0; i < kPart; ++i) {
      const float term = frame.term(static_cast<float>(tiles.k[(first + i) * kLanes]));
      const float v = static_cast<float>(tiles.v[(first + i) * kLanes]);
      const float from_right = term * fmaf(v, right_of[i].a, -right_of[i].b);
      const float from_left = term * fmaf(v, left.a, -left.b);
      const float own_term = term * frame.bonus;
      store_below(gk, static_cast<In>(from_right + from_left + own_term * fmaf(v, q[i], -h[i])), first + i, written);
      store_below(gv, static_cast<In>(fmaf(term, right_of[i].a + left.a, own_term * q[i])), first + i, written);
      gk += gradients.stride;
      gv += gradients.stride;
      moment += from_right - from_left;
      moment_by_token = fmaf(static_cast<float>(first + i), from_right - from_left, moment_by_token);
      frame.push(left, q[i], h[i]);
    }
  }
  const float first = static_cast<float>(place.first_token) - 0.5f * static_cast<float>(shape.tokens - 1);
  write_parts(gradients, fmaf(first, moment, moment_by_token) - gu, gu, shape, place, shared);
  return true;
}

}  // namespace vrwkv::ops::cuda
