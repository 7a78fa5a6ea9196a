#pragma once

// Bi-WKV for any finite input: every sum is kept relative to its own largest term (ops/bi_wkv_state.h), for several
// exponentials a token. For channels that bi_wkv_framed.h cannot take.

#include <ATen/cpu/vec/vec.h>

#include "ops/bi_wkv_state.h"
#include "ops/cpu/bi_wkv_kernel.h"

namespace vrwkv::ops::cpu::VRWKV_ISA {

using at::vec::Vectorized;

/// The channels of one vector, or less at the end of the row.
template <typename T>
struct ExactLanes {
  using V = Vectorized<T>;
  int64_t first, count;
  V load(const T* row) const { return V::loadu(row + first, count); }
  void store(T* row, const V& value) const { value.store(row + first, static_cast<int>(count)); }
};

/// Vectors of scratch a token that the exact scans need.
inline constexpr int64_t kExactForwardRows = 3;
inline constexpr int64_t kExactBackwardRows = 6;

template <typename T>
struct VectorMath {
  using Scalar = T;
  using V = Vectorized<T>;
  using Mask = V;
  static V exp(const V& x) { return x.exp(); }
  static V neg_abs(const V& x) { return x.abs().neg(); }
  static V max(const V& x, const V& y) { return at::vec::maximum(x, y); }
  static Mask greater_equal(const V& x, const V& y) { return x >= y; }
  static V select(const Mask& mask, const V& yes, const V& no) { return V::blendv(no, yes, mask); }
  static V fmadd(const V& x, const V& y, const V& z) { return at::vec::fmadd(x, y, z); }
  static V fnmadd(const V& x, const V& y, const V& z) { return at::vec::fmadd(x.neg(), y, z); }
};

/// Runs both scans of the forward pass over one column and hands each token's Output to `sink(t, output)`.
/// `scratch` holds 3 T vectors.
template <typename T, typename Sink>
void scan_forward(const BiWkvInputs<T>& in, int64_t b, const ExactLanes<T>& lanes, T* scratch, const Sink& sink) {
  using V = Vectorized<T>;
  using M = VectorMath<T>;
  constexpr int64_t width = V::size();
  const V w = lanes.load(in.w);
  const V u = lanes.load(in.u);
  const int64_t base = b * in.tokens * in.channels;

  Sums<V> sums;
  clear<M>(sums);
  for (int64_t t = in.tokens - 1; t >= 0; --t) {
    T* saved = scratch + 3 * t * width;
    sums.a.store(saved);
    sums.b.store(saved + width);
    exponent<M>(sums, w).store(saved + 2 * width);
    const int64_t row = base + t * in.channels;
    push<M>(sums, w, lanes.load(in.k + row), lanes.load(in.v + row), V(1));
  }
  clear<M>(sums);
  for (int64_t t = 0; t < in.tokens; ++t) {
    const T* saved = scratch + 3 * t * width;
    const int64_t row = base + t * in.channels;
    const V k = lanes.load(in.k + row);
    const V v = lanes.load(in.v + row);
    sink(t, finish<M>(sums, V::loadu(saved), V::loadu(saved + width), V::loadu(saved + 2 * width), w, u, k, v));
    push<M>(sums, w, k, v, V(1));
  }
}

template <typename T>
void exact_forward(const BiWkvInputs<T>& in, int64_t b, const ExactLanes<T>& lanes, T* scratch, T* y) {
  scan_forward(in, b, lanes, scratch, [&](int64_t t, const Output<Vectorized<T>>& output) {
    lanes.store(y + (b * in.tokens + t) * in.channels, output.y);
  });
}

/// Gradients of one column. `scratch` holds 6 T vectors: 3 of scan_forward, then key, g and h of every token.
template <typename T>
void exact_backward(const BiWkvInputs<T>& in, const BiWkvGradients<T>& gradients, int64_t b, const ExactLanes<T>& lanes,
                    T* scratch) {
  using V = Vectorized<T>;
  using M = VectorMath<T>;
  constexpr int64_t width = V::size();
  const V w = lanes.load(in.w);
  const V u = lanes.load(in.u);
  const int64_t base = b * in.tokens * in.channels;
  T* terms = scratch + 3 * in.tokens * width;

  scan_forward(in, b, lanes, scratch, [&](int64_t t, const Output<V>& output) {
    T* term = terms + 3 * t * width;
    const V g = lanes.load(gradients.gy + base + t * in.channels) / output.denominator;
    output.m.neg().store(term);
    g.store(term + width);
    (g * output.y).store(term + 2 * width);
  });

  V gw(0), gu(0);
  WeightedSums<V> sums;
  clear<M>(sums);
  for (int64_t t = in.tokens - 1; t >= 0; --t) {
    const T* term = terms + 3 * t * width;
    const int64_t row = base + t * in.channels;
    const V k = lanes.load(in.k + row);
    const V v = lanes.load(in.v + row);
    const Gradients<V> right = differentiate<M>(sums, w, k, v);
    lanes.store(gradients.gv + row, right.gv);
    lanes.store(gradients.gk + row, right.gk);
    gw = gw + right.gw;
    push<M>(sums, w, V::loadu(term), V::loadu(term + width), V::loadu(term + 2 * width));
  }
  clear<M>(sums);
  for (int64_t t = 0; t < in.tokens; ++t) {
    const T* term = terms + 3 * t * width;
    const int64_t row = base + t * in.channels;
    const V k = lanes.load(in.k + row);
    const V v = lanes.load(in.v + row);
    const V key = V::loadu(term);
    const V g = V::loadu(term + width);
    const V h = V::loadu(term + 2 * width);
    const Gradients<V> left = differentiate<M>(sums, w, k, v);
    const V own_scale = M::exp(u + k + key);
    const V own_gk = (v * g - h) * own_scale;
    lanes.store(gradients.gv + row, lanes.load(gradients.gv + row) + left.gv + g * own_scale);
    lanes.store(gradients.gk + row, lanes.load(gradients.gk + row) + left.gk + own_gk);
    gw = gw + left.gw;
    gu = gu + own_gk;
    push<M>(sums, w, key, g, h);
  }
  lanes.store(gradients.gw + b * in.channels, gw);
  lanes.store(gradients.gu + b * in.channels, gu);
}

}  // namespace vrwkv::ops::cpu::VRWKV_ISA
