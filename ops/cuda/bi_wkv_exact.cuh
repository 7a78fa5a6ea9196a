#pragma once

// Bi-WKV with a running maximum in every sum (ops/bi_wkv_state.h): right for any finite input, at several exponentials
// a token. float64 always takes this way, float32 where bi_wkv_framed.cuh cannot. The functions are not inlined, so
// that their registers do not burden the fast way.
//
// The gradient of w needs no distances. With L_t the sums left of t and G_t those of the gradient terms right of t,
// d y / d w through the terms left of their readers is -e^{-w} sum_t L_t G_t, since the pair (i, t') is met once at
// each of the |t' - i| - 1 tokens between them; and likewise mirrored.

#include "ops/cuda/bi_wkv_exchange.cuh"

namespace vrwkv::ops::cuda {

/// The exact arithmetic of one thread's channel and segment. k and v are read where they are needed.
template <typename T, typename In, typename P>
class Exact {
 public:
  using M = ScalarMath<T>;
  using State = Sums<T>;
  static constexpr int kTokens = P::kTokens;

  __device__ Exact(const Inputs<T, In>& inputs, const P& place, const Shape& shape)
      : w(inputs.w[place.channel]),
        u(inputs.u[place.channel]),
        k_(inputs.k + place.first_element),
        v_(inputs.v + place.first_element),
        stride_(shape.channels) {}

  __device__ T k(int i) const { return static_cast<T>(k_[i * stride_]); }
  __device__ T v(int i) const { return static_cast<T>(v_[i * stride_]); }

  static __device__ State none() {
    State state;
    clear<M>(state);
    return state;
  }
  __device__ void push(State& state, int i) const { vrwkv::ops::push<M>(state, w, k(i), v(i), T(1)); }
  __device__ void push_gradient(State& state, T q, T h, T key) const { vrwkv::ops::push<M>(state, w, key, q, h); }
  __device__ void join(State& state, const State& segment) const { vrwkv::ops::join<M>(state, w, T(kTokens), segment); }

  /// Part of gw of the pairs whose two ends are summed in `terms` and `gradient`, on either side of a token.
  __device__ T pairs(const State& terms, const State& gradient) const {
    const T scale = M::exp(exponent<M>(terms, w) + exponent<M>(gradient, w) - w);
    return (terms.b * gradient.b - terms.a * gradient.a) * scale;
  }

  T w, u;

 private:
  const In *k_, *v_;
  int64_t stride_;
};

/// Sums of the segment's `count` tokens in both directions, left in shared memory, too.
template <typename P, typename T, typename Push>
__device__ Sides<Sums<T>> exact_segment(const P& place, const SharedMemory<T>& shared, const Push& push) {
  Sums<T> from_left, from_right;
  clear<ScalarMath<T>>(from_left);
  clear<ScalarMath<T>>(from_right);
#pragma unroll 1
  for (int i = 0; i < place.count; ++i) {
    push(from_left, i);
    push(from_right, place.count - 1 - i);
  }
  // A segment cut short by the sequence's end has nothing right of it, so the missing tokens may count as passed.
  put_segment(from_left, from_right, place, shared);
  __syncthreads();
  return {from_left, from_right};
}

/// Leaves the sums of a chunk, from those of its segments. After exact_segment(), which gave `own`.
template <typename P, typename T, typename In>
__device__ void exact_chunk(const Exact<T, In, P>& exact, const P& place, const Shape& shape,
                            const SharedMemory<T>& shared, const GlobalSums<T>& totals, const Sides<Sums<T>>& own) {
  const auto join = [&](Sums<T>& state, const Sums<T>& segment) { exact.join(state, segment); };
  Sides<Sums<T>> beside{exact.none(), exact.none()};
  join_segments(beside, place, shared, join);
  leave_chunk(place, shape, totals, beside, own, join, [](const Sums<T>& state) { return state; });
}

/// What comes in from other chunks. After exact_segment(), which gave `own`.
template <Exchange kExchange, typename P, typename T, typename In>
__device__ Sides<Sums<T>> exact_incoming(const Exact<T, In, P>& exact, const P& place, const Shape& shape,
                                         const SharedMemory<T>& shared, const GlobalSums<T>& global,
                                         const Sides<Sums<T>>& own) {
  if constexpr (kExchange == Exchange::none) return {exact.none(), exact.none()};
  if constexpr (kExchange == Exchange::running) {
    exact_chunk(exact, place, shape, shared, global, own);
    meet_sequence(place, shape, global);
  }
  gather_chunks<true>(place, shape, shared.gathered(), {exact.w}, global);
  __syncthreads();
  return gathered_sums(place, shape, shared.gathered());
}

/// Makes of what comes in to the chunk what stands left and right of the thread's segment. After exact_segment().
template <typename P, typename T, typename In>
__device__ void join_beside(Sides<Sums<T>>& sides, const Exact<T, In, P>& exact, const P& place,
                            const SharedMemory<T>& shared) {
  join_segments(sides, place, shared, [&](Sums<T>& state, const Sums<T>& segment) { exact.join(state, segment); });
}

/// Runs over the segment and gives `sink(i, output)` each token's Output; `right` is left with the sums right of each.
template <typename T, typename In, typename P, typename Sink>
__device__ void exact_outputs(const Exact<T, In, P>& exact, const Sides<Sums<T>>& sides, int count,
                              Sums<T> (&right)[P::kTokens], const Sink& sink) {
  using M = ScalarMath<T>;
  Sums<T> state = sides.right;
#pragma unroll 1
  for (int i = count - 1; i >= 0; --i) {
    right[i] = state;
    exact.push(state, i);
  }
  state = sides.left;
#pragma unroll 1
  for (int i = 0; i < count; ++i) {
    sink(i, finish<M>(state, right[i].a, right[i].b, exponent<M>(right[i], exact.w), exact.w, exact.u, exact.k(i),
                      exact.v(i)));
    exact.push(state, i);
  }
}

template <typename T, Exchange kExchange, typename P, typename In>
__device__ __noinline__ void exact_forward(char* memory, const Shape& shape, unsigned item, const Inputs<T, In>& inputs,
                                           const GlobalSums<T>& global, const ChunkSums<T>& kept, In* y) {
  const SharedMemory<T> shared{memory, shape.warps};
  const P place(shape, item);
  const Exact<T, In, P> exact(inputs, place, shape);
  const auto own = exact_segment(place, shared, [&](Sums<T>& state, int i) { exact.push(state, i); });
  Sides<Sums<T>> sides = exact_incoming<kExchange>(exact, place, shape, shared, global, own);
  if constexpr (kExchange != Exchange::none) keep_incoming(place, shape, kept, sides);
  join_beside(sides, exact, place, shared);
  Sums<T> right[P::kTokens];
  exact_outputs(exact, sides, place.count, right, [&](int i, const Output<T>& out) {
    const int64_t element = place.first_element + i * shape.channels;
    const T gate = inputs.r == nullptr ? T(1) : sigmoid(static_cast<T>(inputs.r[element]));
    if (place.inside) y[element] = static_cast<In>(out.y * gate);
  });
}

/// The sums of a chunk in both directions.
template <typename T, typename P, typename In>
__device__ __noinline__ void exact_totals(char* memory, const Shape& shape, unsigned item, const Inputs<T, In>& inputs,
                                          const GlobalSums<T>& totals) {
  const SharedMemory<T> shared{memory, shape.warps};
  const P place(shape, item);
  const Exact<T, In, P> exact(inputs, place, shape);
  const auto own = exact_segment(place, shared, [&](Sums<T>& state, int i) { exact.push(state, i); });
  exact_chunk(exact, place, shape, shared, totals, own);
}

/// All gradients; with kTotalsOnly, no more than the chunk's sums of gradient terms, written to `global`.
template <typename T, Exchange kExchange, bool kTotalsOnly, typename P, typename In>
__device__ __noinline__ void exact_backward(char* memory, const Shape& shape, unsigned item,
                                            const Inputs<T, In>& inputs, const ChunkSums<T>& kept,
                                            const GlobalSums<T>& global, const GradientPointers<T, In>& gradients) {
  using M = ScalarMath<T>;
  constexpr int kTokens = P::kTokens;
  const SharedMemory<T> shared{memory, shape.warps};
  const P place(shape, item);
  const Exact<T, In, P> exact(inputs, place, shape);
  exact_segment(place, shared, [&](Sums<T>& state, int i) { exact.push(state, i); });
  Sides<Sums<T>> sides{exact.none(), exact.none()};
  if constexpr (kExchange != Exchange::none) sides = kept_incoming(place, shape, kept);
  join_beside(sides, exact, place, shared);

  const auto to = [&](int i) { return (place.first_row + i) * gradients.stride + place.channel; };
  T q[kTokens], h[kTokens], key[kTokens];  // the gradient terms
  Sums<T> right[kTokens];
  exact_outputs(exact, sides, place.count, right, [&](int i, const Output<T>& out) {
    const int64_t element = place.first_element + i * shape.channels;
    T gradient = static_cast<T>(gradients.gy[element]);
    if (inputs.r != nullptr) {
      const T gate = sigmoid(static_cast<T>(inputs.r[element]));
      if (!kTotalsOnly && place.inside) {
        gradients.gr[to(i)] = static_cast<In>(gradient * out.y * gate * (T(1) - gate));
      }
      gradient *= gate;
    }
    q[i] = gradient / out.denominator;
    h[i] = q[i] * out.y;
    key[i] = -out.m;
  });
  const auto push_gradient = [&](Sums<T>& state, int i) { exact.push_gradient(state, q[i], h[i], key[i]); };
  __syncthreads();  // The segments' forward sums are read; their memory takes the gradient sums now.
  const auto gradient_own = exact_segment(place, shared, push_gradient);
  if constexpr (kTotalsOnly) {
    exact_chunk(exact, place, shape, shared, global, gradient_own);
    return;
  }
  Sides<Sums<T>> gradient_sides = exact_incoming<kExchange>(exact, place, shape, shared, global, gradient_own);
  join_beside(gradient_sides, exact, place, shared);

  Sums<T> state = gradient_sides.right;
#pragma unroll 1
  for (int i = place.count - 1; i >= 0; --i) {
    right[i] = state;
    push_gradient(state, i);
  }
  T gw = T(0), gu = T(0);
  state = gradient_sides.left;
  Sums<T> forward_state = sides.left;
#pragma unroll 1
  for (int i = 0; i < place.count; ++i) {
    const T k = exact.k(i), v = exact.v(i);
    const T own = M::exp(exact.u + k + key[i]);
    const T left_scale = M::exp(k + exponent<M>(state, exact.w));
    const T right_scale = M::exp(k + exponent<M>(right[i], exact.w));
    const T own_gk = (v * q[i] - h[i]) * own;
    if (place.inside) {
      gradients.gk[to(i)] =
          static_cast<In>((v * state.a - state.b) * left_scale + (v * right[i].a - right[i].b) * right_scale + own_gk);
      gradients.gv[to(i)] = static_cast<In>(state.a * left_scale + right[i].a * right_scale + q[i] * own);
    }
    gu += own_gk;
    gw += exact.pairs(forward_state, right[i]);
    right[i] = state;  // From here on: the gradient sums left of the token.
    push_gradient(state, i);
    exact.push(forward_state, i);
  }
  forward_state = sides.right;
#pragma unroll 1
  for (int i = place.count - 1; i >= 0; --i) {
    gw += exact.pairs(forward_state, right[i]);
    exact.push(forward_state, i);
  }
  write_parts(gradients, gw, gu, shape, place, shared);
}

}  // namespace vrwkv::ops::cuda
