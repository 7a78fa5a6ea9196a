#pragma once

#include "ops/cuda/bi_wkv_framed.cuh"

namespace vrwkv::ops::cuda {

// The gradient of w without distances and in one pass. With A_t the part of token t's gradient terms that meets the
// terms left of it, q_t (L_t - y_t L'_t), A'_t that on its right, B_i and B'_i the parts of gk_i from readers right and
// left of it, each pair (i, t) adds the same amount to its A and to its B, and its distance times that amount to gw. So
// gw is sum_t t (B_t - B'_t - A_t + A'_t) - gu; and since A_t + A'_t = -own_t, the difference of the A is -2 A_t -
// own_t. The four sums of the parts cancel, so positions may be counted from any origin: the middle keeps them small.

/// Tokens whose inputs are read before any of their tile rows are written again.
constexpr int kGroup = 2;

/// All gradients of one thread's tokens; with kTotalsOnly, no more than the chunk's sums of gradient terms, written to
/// `gradient_global`. The forward pass is repeated: reading k and v again costs less than any stored sums.
template <Exchange kExchange, bool kGated, bool kTotalsOnly, typename P, typename In>
__device__ __forceinline__ void framed_backward(const Shape& shape, const P& place, const SharedMemory<float>& shared,
                                                const Inputs<float, In>& inputs, const GlobalSums<float>& global,
                                                const GlobalSums<float>& gradient_global,
                                                const GradientPointers<float, In>& gradients) {
  constexpr int kTokens = P::kTokens;
  constexpr int kWideRow = BackwardTiles<In, kTokens>::kWideRow;
  const BackwardTiles<In, kTokens> tiles(shared.tiles(), place, shape.warps);
  load_segment<kWideRow>(tiles.k(), inputs.k, static_cast<In>(-INFINITY), place, shape);
  load_segment<kLanes>(tiles.v, inputs.v, static_cast<In>(0.0f), place, shape);
  load_segment<kWideRow>(tiles.gy(), gradients.gy, static_cast<In>(0.0f), place, shape);
  if constexpr (kGated) load_segment<kWideRow>(tiles.r(), inputs.r, static_cast<In>(0.0f), place, shape);
  const float w = inputs.w[place.channel];
  Frame frame(w, inputs.u[place.channel], kTokens);
  finish_loads();
  set_frame(frame, tiles.k(), kWideRow, place, shared);

  FramedSums beside[kTokens];  // First the sums left of each token, of this segment alone.
  SegmentScan scan;
#pragma unroll
  for (int first = 0; first < kTokens; first += kGroup) {
    float k[kGroup];
#pragma unroll
    for (int i = 0; i < kGroup; ++i) k[i] = static_cast<float>(tiles.k()[(first + i) * kWideRow]);
    __syncwarp();
#pragma unroll
    for (int i = 0; i < kGroup; ++i) {
      const float term = frame.term(k[i]);
      tiles.e[(first + i) * kLanes] = term;
      beside[first + i] = scan.from_left;
      scan.add(frame, term * static_cast<float>(tiles.v[(first + i) * kLanes]), term);
    }
  }
  put_segment(scan.from_left, scan.from_right, place, shared);
  const auto [sides, rescale] = forward_sides<kExchange>(frame, place, shape, shared, w, global);
  const float local = kExchange == Exchange::none ? 1.0f : rescale;

  const int written = place.inside ? place.count : 0;
  float gu = 0.0f, moment = 0.0f, moment_by_token = 0.0f;
  scan = {};
  FramedSums right = sides.right;
  float power = frame.power(kTokens - 1);
  const int64_t last = place.first_element + (kTokens - 1) * shape.channels;
  In* gr = kGated ? gradients.gr + last : nullptr;
#pragma unroll
  for (int first = kTokens - kGroup; first >= 0; first -= kGroup) {
    float gradient[kGroup], gate[kGroup];
#pragma unroll
    for (int i = 0; i < kGroup; ++i) {
      gradient[i] = static_cast<float>(tiles.gy()[(first + i) * kWideRow]);
      gate[i] = kGated ? sigmoid(static_cast<float>(tiles.r()[(first + i) * kWideRow])) : 1.0f;
    }
    __syncwarp();
#pragma unroll
    for (int j = kGroup - 1; j >= 0; --j) {
      const int i = first + j;
      const float term = local * tiles.e[i * kLanes];
      const float v = static_cast<float>(tiles.v[i * kLanes]);
      const FramedSums left = widen(beside[i], local, power, sides.left);
      const FramedOutput token(left, right, frame.bonus * term, v);
      if constexpr (kGated) {
        gradient[j] *= gate[j];
        if (!kTotalsOnly && i < written) *gr = static_cast<In>(gradient[j] * token.y * (1.0f - gate[j]));
        gr -= shape.channels;
      }
      const float q = gradient[j] * token.inverse, h = q * token.y;
      tiles.q[i * kLanes] = q;
      tiles.h[i * kLanes] = h;
      const float own = token.own * fmaf(v, q, -h);
      const float part = fmaf(-2.0f, fmaf(q, left.a, -h * left.b), -own);
      gu += own;
      moment += part;
      moment_by_token = fmaf(static_cast<float>(i), part, moment_by_token);
      beside[i] = scan.from_left;  // Now the gradient sums right of each token, of this segment alone.
      scan.add(frame, q, h);
      frame.push(right, term * v, term);
      power *= frame.inverse_decay;
    }
  }
  __syncthreads();  // The segments' forward sums are read; their memory takes the gradient sums.
  put_segment(scan.from_right, scan.from_left, place, shared);  // The scan ran from right to left.
  const auto join = [&](FramedSums& state, const FramedSums& sums) { frame.join(state, sums); };
  if constexpr (kTotalsOnly) {
    total_segments(place, shared, FramedSums{0.0f, 0.0f}, join, [&](int direction, const FramedSums& state) {
      if (place.inside) gradient_global.at(direction, place, shape) = frame.leave_gradient(state);
    });
  } else {
    Sides<FramedSums> incoming{{0.0f, 0.0f}, {0.0f, 0.0f}};
    if constexpr (kExchange != Exchange::none) {
      incoming = frame.enter_gradient(
          exchange_chunks<kExchange>(place, shape, shared, w, gradient_global, FramedSums{0.0f, 0.0f}, join,
                                     [&](const FramedSums& state) { return frame.leave_gradient(state); }));
    }
    join_segments(incoming, place, shared, join);

    power = frame.power(kTokens - 1);
    FramedSums left = incoming.left;
    In* gk = gradients.gk + place.first_element;
    In* gv = gradients.gv + place.first_element;
#pragma unroll
    for (int i = 0; i < kTokens; ++i) {
      const float v = static_cast<float>(tiles.v[i * kLanes]);
      const float q = tiles.q[i * kLanes], h = tiles.h[i * kLanes], term = local * tiles.e[i * kLanes];
      const FramedSums readers = widen(beside[i], 1.0f, power, incoming.right);
      const float from_right = term * fmaf(v, readers.a, -readers.b);
      const float from_left = term * fmaf(v, left.a, -left.b);
      const float own = term * frame.bonus;
      if (i < written) {
        *gk = static_cast<In>(from_right + from_left + own * fmaf(v, q, -h));
        *gv = static_cast<In>(fmaf(term, readers.a + left.a, own * q));
      }
      gk += shape.channels;
      gv += shape.channels;
      moment += from_right - from_left;
      moment_by_token = fmaf(static_cast<float>(i), from_right - from_left, moment_by_token);
      frame.push(left, q, h);
      power *= frame.inverse_decay;
    }
    const float first = static_cast<float>(place.first_token) - 0.5f * static_cast<float>(shape.tokens - 1);
    write_parts(gradients, fmaf(first, moment, moment_by_token) - gu, gu, shape, place, shared);
  }
}

}  // namespace vrwkv::ops::cuda
