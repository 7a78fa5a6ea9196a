#pragma once

// Two ways to add up the terms of Bi-WKV within a block of tokens, with one interface, so that the kernels are written
// once. In both, `State` is what stands on one side of a token; push() moves it over a token of the thread, join() over
// a whole segment.
//
// Exact: a running maximum for every state (ops/bi_wkv_state.h). Right for any finite input, several exponentials a
// token.
//
// Framed: one exponent for the whole block, `frame`, the largest of its keys and of the sums that come in from outside.
// Every token sees every term, so the sum of a token lies within e^{+-(|w| tokens + |u|)} of e^{frame}: where that is
// bounded (fits()), nothing that counts can under- or overflow, whatever the keys are. One exponential a token remains,
// and the scans become a <- a e^{-w} + e^{k_i} v_i.
//
// The gradient of w needs no distances. With L_t the sums left of t and G_t those of the gradient terms right of t,
// d y / d w through the terms left of their readers is -e^{-w} sum_t L_t G_t, since the pair (i, t') is met once at each
// of the |t' - i| - 1 tokens between them; and likewise mirrored.

#include "ops/bi_wkv_state.h"
#include "ops/cuda/packed.cuh"

namespace vrwkv::ops::cuda {

/// Exponentials and conditional choices of one thread. float uses the hardware's base-2 exponential, whose error is
/// within a few ulp of the result for the arguments that matter here (at most 0, or near it).
template <typename T>
struct ScalarMath {
  using Scalar = T;
  using Mask = bool;
  static __device__ __forceinline__ T exp(T x) {
    if constexpr (sizeof(T) == 4) {
      return __expf(x);
    } else {
      return ::exp(x);
    }
  }
  static __device__ __forceinline__ T neg_abs(T x) { return x < T(0) ? x : -x; }
  static __device__ __forceinline__ T max(T x, T y) { return x > y ? x : y; }
  static __device__ __forceinline__ bool greater_equal(T x, T y) { return x >= y; }
  static __device__ __forceinline__ T select(bool mask, T yes, T no) { return mask ? yes : no; }
  static __device__ __forceinline__ T fmadd(T x, T y, T z) { return x * y + z; }
  static __device__ __forceinline__ T fnmadd(T x, T y, T z) { return z - x * y; }
};

/// y of a token, and what its gradient terms are made of.
template <typename T>
struct TokenOutput {
  T y, inverse;  ///< 1 / denominator, in the arithmetic's scale.
  T key;         ///< Exponent of the gradient terms (Exact only).
};

/// gk, gv and the token's part of gu.
template <typename T>
struct TokenGradients {
  T gk, gv, gu;
};

template <typename T, typename In, int kTokens>
class Exact {
 public:
  using M = ScalarMath<T>;
  using State = Sums<T>;
  static constexpr bool kAbsentTermsVanish = false;
  __device__ Exact(T w, T u) : w_(w), u_(u) {}

  __device__ void set_terms(const T (&k)[kTokens], const Packed<In, kTokens>& v, T /*largest*/) {
#pragma unroll
    for (int i = 0; i < kTokens; ++i) k_[i] = k[i];
    v_ = v;
  }

  static __device__ State none() {
    State state;
    clear<M>(state);
    return state;
  }
  __device__ void push(State& state, int i) const {
    vrwkv::ops::push<M>(state, w_, k_[i], static_cast<T>(v_[i]), T(1));
  }
  __device__ void push_gradient(State& state, T q, T h, T key) const { vrwkv::ops::push<M>(state, w_, key, q, h); }
  __device__ void join(State& state, const State& segment, T tokens) const {
    vrwkv::ops::join<M>(state, w_, tokens, segment);
  }
  __device__ void join_gradient(State& state, const State& segment, T tokens) const { join(state, segment, tokens); }

  /// Sums of the whole block, in the form that blocks exchange.
  __device__ Sums<T> leave(const State& state) const { return state; }
  __device__ Sums<T> leave_gradient(const State& state) const { return state; }
  __device__ void reframe(const Sums<T>&, const Sums<T>&) {}
  __device__ State enter(const Sums<T>& sums) const { return sums; }
  __device__ State enter_gradient(const Sums<T>& sums) const { return sums; }

  __device__ TokenOutput<T> output(const State& left, const State& right, int i) const {
    const Output<T> out =
        finish<M>(left, right.a, right.b, exponent<M>(right, w_), w_, u_, k_[i], static_cast<T>(v_[i]));
    return {out.y, T(1) / out.denominator, -out.m};
  }

  /// From the forward sums beside token i and the sums of gradient terms on either side of it.
  __device__ TokenGradients<T> gradients(int i, T q, T h, T key, const State& from_left, const State& from_right) const {
    const T v = static_cast<T>(v_[i]);
    const T own = M::exp(u_ + k_[i] + key);
    const T left = M::exp(k_[i] + exponent<M>(from_left, w_));
    const T right = M::exp(k_[i] + exponent<M>(from_right, w_));
    const T own_gk = (v * q - h) * own;
    return {(v * from_left.a - from_left.b) * left + (v * from_right.a - from_right.b) * right + own_gk,
            from_left.a * left + from_right.a * right + q * own, own_gk};
  }

  /// Part of gw of the pairs whose two ends are summed in `terms` and `gradient`, on either side of a token.
  __device__ T pairs(const State& terms, const State& gradient) const {
    const T scale = M::exp(exponent<M>(terms, w_) + exponent<M>(gradient, w_) - w_);
    return (terms.b * gradient.b - terms.a * gradient.a) * scale;
  }

 private:
  T w_, u_, k_[kTokens];
  Packed<In, kTokens> v_;
};

template <typename In, int kTokens>
class Framed {
 public:
  struct State {
    float a, b;
  };

  static constexpr bool kAbsentTermsVanish = true;  ///< k = -infinity is no term at all.

  /// Whether the sums of a block of `block` tokens, of `tokens` in all, keep within float32. For w < 0 the sums that
  /// come in from outside may exceed the block's own by e^{|w| tokens}. False for NaN.
  static __device__ bool fits(float w, float u, int block, int64_t tokens) {
    const float reach = w < 0.0f ? -w * static_cast<float>(tokens) : w * static_cast<float>(block);
    return reach + fabsf(u) <= 40.0f;
  }

  __device__ Framed(float w, float u)
      : w_(w), decay_(exp2(-w * kLog2e)), segment_decay_(exp2(-w * (kTokens * kLog2e))), bonus_(exp2(u * kLog2e)) {}

  __device__ void set_terms(const float (&k)[kTokens], const Packed<In, kTokens>& v, float largest) {
    frame_ = ceilf(largest * kLog2e);
#pragma unroll
    for (int i = 0; i < kTokens; ++i) e_[i] = exp2(fmaf(k[i], kLog2e, -frame_));
    v_ = v;
  }

  static __device__ State none() { return {0.0f, 0.0f}; }
  __device__ void push(State& state, int i) const {
    state.a = fmaf(state.a, decay_, e_[i] * static_cast<float>(v_[i]));
    state.b = fmaf(state.b, decay_, e_[i]);
  }
  __device__ void push_gradient(State& state, float q, float h, float /*key*/) const {
    state.a = fmaf(state.a, decay_, q);
    state.b = fmaf(state.b, decay_, h);
  }
  __device__ void join(State& state, const State& segment, float /*tokens*/) const {
    state.a = fmaf(state.a, segment_decay_, segment.a * rescale_);
    state.b = fmaf(state.b, segment_decay_, segment.b * rescale_);
  }
  __device__ void join_gradient(State& state, const State& segment, float /*tokens*/) const {
    state.a = fmaf(state.a, segment_decay_, segment.a);
    state.b = fmaf(state.b, segment_decay_, segment.b);
  }

  __device__ Sums<float> leave(const State& state) const { return {state.a, state.b, frame_ * kLn2, 0.0f}; }
  __device__ Sums<float> leave_gradient(const State& state) const { return {state.a, state.b, -frame_ * kLn2, 0.0f}; }

  /// Raises the frame to the sums from outside, if these are larger.
  __device__ void reframe(const Sums<float>& left, const Sums<float>& right) {
    const float frame = fmaxf(frame_, ceilf(kLog2e * fmaxf(left.key - left.n * w_, right.key - right.n * w_)));
    rescale_ = exp2(frame_ - frame);
    frame_ = frame;
#pragma unroll
    for (int i = 0; i < kTokens; ++i) e_[i] *= rescale_;
  }
  __device__ State enter(const Sums<float>& sums) const { return scaled(sums, -frame_); }
  __device__ State enter_gradient(const Sums<float>& sums) const { return scaled(sums, frame_); }

  __device__ TokenOutput<float> output(const State& left, const State& right, int i) const {
    const float own = bonus_ * e_[i];
    const float numerator = left.a + fmaf(own, static_cast<float>(v_[i]), right.a);
    const float inverse = reciprocal(left.b + right.b + own);
    return {numerator * inverse, inverse, 0.0f};
  }
  __device__ TokenGradients<float> gradients(int i, float q, float h, float /*key*/, const State& from_left,
                                             const State& from_right) const {
    const float v = static_cast<float>(v_[i]);
    const float gv = e_[i] * fmaf(bonus_, q, from_left.a + from_right.a);
    const float gk = fmaf(v, gv, -e_[i] * fmaf(bonus_, h, from_left.b + from_right.b));
    return {gk, gv, bonus_ * e_[i] * fmaf(v, q, -h)};
  }
  __device__ float pairs(const State& terms, const State& gradient) const {
    return fmaf(terms.b, gradient.b, -terms.a * gradient.a) * decay_;
  }

 private:
  static constexpr float kLog2e = 1.4426950408889634f;
  static constexpr float kLn2 = 0.6931471805599453f;
  static __device__ __forceinline__ float exp2(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
  }
  static __device__ __forceinline__ float reciprocal(float x) {
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
  }
  __device__ State scaled(const Sums<float>& sums, float offset) const {
    const float scale = exp2(fmaf(kLog2e, sums.key - sums.n * w_, offset));
    return {sums.a * scale, sums.b * scale};
  }

  float w_, decay_, segment_decay_, bonus_;
  float frame_ = 0.0f;  ///< In powers of 2, an integer, so that a change of frame rounds nothing.
  float rescale_ = 1.0f;
  float e_[kTokens];
  Packed<In, kTokens> v_;
};

}  // namespace vrwkv::ops::cuda
