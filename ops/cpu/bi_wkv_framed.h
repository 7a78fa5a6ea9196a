#pragma once

// Bi-WKV with one exponential a token: every sum of a channel is kept relative to the same exponent (the frame), so
// that a step of a scan is a multiplication and an addition. The frame is 0 where the largest key is near it, else that
// key.
//
// With e_t = e^{k_t - max k} in [0, 1] each token's denominator lies between e^{-S} and T e^{S}, where
// S = |w| T + |u| is the channel's span, because every token sees the largest key. While S is small enough nothing that
// counts under- or overflows; see kMaxSpan. A frame of 0 saves a pass over the keys that finds the largest.

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <type_traits>
#include <vector>

#include "ops/cpu/bi_wkv_kernel.h"
#include "ops/cpu/bi_wkv_lanes.h"

namespace vrwkv::ops::cpu::VRWKV_ISA {

/// The largest span of a framed channel, and the largest keys for which its frame may be 0. A term that underflows in
/// the frame is below e^{2 S - kLeastKey} times the smallest number relative to any token's sums: 4e-9 in float32, far
/// less in float64.
template <typename T>
inline constexpr T kMaxSpan = std::is_same_v<T, float> ? T(32) : T(300);
inline constexpr int kLeastKey = -4, kMostKey = 16;

/// Results of so many bytes are written past the caches, which hold little of them when they are read again.
inline constexpr int64_t kStreamedBytes = int64_t{16} << 20;

/// What the scans need of w and u, for every channel.
template <typename T>
struct Framing {
  std::vector<T> decay;  ///< e^{-w}
  std::vector<T> rest;   ///< What rounding took from decay: T steps would multiply its error by T.
  std::vector<T> bonus;  ///< e^u
  std::vector<char> fits;

  explicit Framing(const BiWkvInputs<T>& in)
      : decay(static_cast<size_t>(in.channels)), rest(decay.size()), bonus(decay.size()), fits(decay.size()) {
    for_each_part<1, T>(0, in.channels, [&](const auto& lanes) {
      using V = VectorizedN<T, 1>;
      const V w = lanes.load(in.w), rounded = w.neg().exp();
      lanes.store(decay.data(), rounded);
      lanes.store(rest.data(), V::blendv(V(T(0)), w.neg().expm1() - (rounded - V(T(1))), w.abs() < V(T(0.5))));
      lanes.store(bonus.data(), lanes.load(in.u).exp());
    });
    for (int64_t c = 0; c < in.channels; ++c) {
      fits[static_cast<size_t>(c)] =
          std::abs(in.w[c]) * static_cast<T>(in.tokens) + std::abs(in.u[c]) <= kMaxSpan<T> ? 1 : 0;
    }
  }

  bool all_fit(int64_t first, int64_t count) const {
    return std::all_of(fits.begin() + first, fits.begin() + first + count, [](char fit) { return fit != 0; });
  }
};

/// Vectors of scratch a token that the framed scans need.
inline constexpr int64_t kFramedForwardRows = 3;
inline constexpr int64_t kFramedBackwardRows = 7;

/// The framed scans over some channels of one batch element. `ahead` is how far behind these inputs those of the next
/// column lie, which are fetched into the cache meanwhile.
template <typename T, int N, bool Whole>
class FramedColumn {
 public:
  using V = VectorizedN<T, N>;
  static constexpr int64_t width = V::size();

  FramedColumn(const BiWkvInputs<T>& in, const Framing<T>& framing, int64_t b, Lanes<T, N, Whole> lanes, T* scratch,
               int64_t ahead)
      : in_(in),
        lanes_(lanes),
        batch_(b),
        base_(b * in.tokens * in.channels),
        ahead_(ahead),
        scratch_(scratch),
        streams_(in.batch * in.tokens * in.channels * static_cast<int64_t>(sizeof(T)) >= kStreamedBytes),
        decay_{lanes.load(framing.decay.data()), lanes.load(framing.rest.data())},
        bonus_(lanes.load(framing.bonus.data())) {}

  /// False when something came out that is no number: the inputs were, or left the range of a frame.
  bool forward(T* y_out) const {
    const bool streams = streams_ && rows_are_aligned(y_out + lanes_.first, in_.channels);
    const Decay decay = decay_;
    const V bonus = bonus_;
    const bool framed = find_frame([&, decay, bonus](const V& frame) {
      V right_a(T(0)), right_b(T(0)), largest(-std::numeric_limits<T>::infinity());
      for (int64_t t = in_.tokens - 1; t >= 0; --t) {
        T* const slot = scratch_ + t * kFramedForwardRows * width;
        const V key = lanes_.load(in_.k + row(t)), e = short_exp(key - frame);
        const V ev = e * lanes_.load(in_.v + row(t));
        lanes_.template prefetch<false>(in_.k + row(t) + ahead_);
        lanes_.template prefetch<false>(in_.v + row(t) + ahead_);
        if (!streams) lanes_.template prefetch<true>(y_out + row(t));
        largest = maximum(largest, key);
        e.store(slot);
        fmadd(bonus, ev, right_a).store(slot + width);
        fmadd(bonus, e, right_b).store(slot + 2 * width);
        decay.advance(right_a, ev);
        decay.advance(right_b, e);
      }
      return largest;
    });
    if (!framed) return false;
    V left_a(T(0)), left_b(T(0)), strange(T(0));
    for (int64_t t = 0; t < in_.tokens; ++t) {
      T* const slot = scratch_ + t * kFramedForwardRows * width;
      const V e = V::loadu(slot);
      const V y = (left_a + V::loadu(slot + width)) / (left_b + V::loadu(slot + 2 * width));
      write(y_out + row(t), y, streams);
      strange = fmadd(y, V(T(0)), strange);
      decay.advance(left_a, e * lanes_.load(in_.v + row(t)));
      decay.advance(left_b, e);
    }
    return !strange.has_inf_nan();
  }

  /// The same for the gradients. The one of w comes from products of sums: a pair of tokens i < t whose term counts
  /// n = t - i - 1 times meets once in (sums left of s) x (gradient sums right of s) at each of the n tokens s between.
  bool backward(const BiWkvGradients<T>& gradients) const {
    const bool streams = streams_ && rows_are_aligned(gradients.gk + lanes_.first, in_.channels) &&
                         rows_are_aligned(gradients.gv + lanes_.first, in_.channels);
    const Decay decay = decay_;
    const V bonus = bonus_;
    const bool framed = find_frame([&, decay](const V& frame) {
      V right_a(T(0)), right_b(T(0)), largest(-std::numeric_limits<T>::infinity());
      for (int64_t t = in_.tokens - 1; t >= 0; --t) {
        T* const slot = scratch_ + t * kFramedBackwardRows * width;
        const V key = lanes_.load(in_.k + row(t)), e = short_exp(key - frame);
        lanes_.template prefetch<false>(in_.k + row(t) + ahead_);
        if (!streams) lanes_.template prefetch<true>(gradients.gk + row(t));
        largest = maximum(largest, key);
        e.store(slot);
        right_a.store(slot + width);
        right_b.store(slot + 2 * width);
        decay.advance(right_a, e * lanes_.load(in_.v + row(t)));
        decay.advance(right_b, e);
      }
      return largest;
    });
    if (!framed) return false;
    V left_a(T(0)), left_b(T(0)), left_g(T(0)), left_h(T(0));
    V gu(T(0)), gw(T(0));
    for (int64_t t = 0; t < in_.tokens; ++t) {
      T* const slot = scratch_ + t * kFramedBackwardRows * width;
      const V e = V::loadu(slot);
      const V v = lanes_.load(in_.v + row(t));
      const V ev = e * v;
      const V right_a = V::loadu(slot + width), right_b = V::loadu(slot + 2 * width);
      const V scale = V(T(1)) / fmadd(bonus, e, left_b + right_b);
      const V y = fmadd(bonus, ev, left_a + right_a) * scale;
      const V g = lanes_.load(gradients.gy + row(t)) * scale;
      const V h = g * y;
      gw = gw + fmsub(right_a, left_g, right_b * left_h);
      gu = fmadd(e, fmsub(v, g, h), gu);
      left_a.store(slot + width);
      left_b.store(slot + 2 * width);
      fmadd(bonus, g, left_g).store(slot + 3 * width);
      fmadd(bonus, h, left_h).store(slot + 4 * width);
      g.store(slot + 5 * width);
      h.store(slot + 6 * width);
      if (!streams) lanes_.template prefetch<true>(gradients.gv + row(t));
      lanes_.template prefetch<false>(in_.v + row(t) + ahead_);
      lanes_.template prefetch<false>(gradients.gy + row(t) + ahead_);
      decay.advance(left_a, ev);
      decay.advance(left_b, e);
      decay.advance(left_g, g);
      decay.advance(left_h, h);
    }
    V right_g(T(0)), right_h(T(0)), strange(T(0));
    for (int64_t t = in_.tokens - 1; t >= 0; --t) {
      T* const slot = scratch_ + t * kFramedBackwardRows * width;
      const V e = V::loadu(slot);
      gw = gw + fmsub(V::loadu(slot + width), right_g, V::loadu(slot + 2 * width) * right_h);
      const V gv = e * (right_g + V::loadu(slot + 3 * width));
      const V gk = fmsub(gv, lanes_.load(in_.v + row(t)), e * (right_h + V::loadu(slot + 4 * width)));
      write(gradients.gv + row(t), gv, streams);
      write(gradients.gk + row(t), gk, streams);
      strange = fmadd(gv + gk, V(T(0)), strange);
      decay.advance(right_g, V::loadu(slot + 5 * width));
      decay.advance(right_h, V::loadu(slot + 6 * width));
    }
    gw = gw * decay.factor.neg();
    lanes_.store(gradients.gw + batch_ * in_.channels, gw);
    lanes_.store(gradients.gu + batch_ * in_.channels, gu * bonus);
    return !fmadd(gw + gu, V(T(0)), strange).has_inf_nan();
  }

 private:
  /// e^{-w}, and what rounding took from it. The scans take a copy: a member, or what is captured by reference, would
  /// be loaded anew after every store to the scratch, which might have changed it for all that the compiler knows.
  struct Decay {
    V factor, rest;

    /// One token on: sum e^{-w} + term.
    void advance(V& sum, const V& term) const { sum = fmadd(sum, factor, fmadd(sum, rest, term)); }
  };

  int64_t row(int64_t t) const { return base_ + t * in_.channels; }

  /// Calls scan(frame), which gives the largest keys, with 0 and, where these are not near it, with them. False if they
  /// are no numbers.
  template <typename Scan>
  static bool find_frame(const Scan& scan) {
    V frame(T(0));
    for (bool first = true;; first = false) {
      const V largest = scan(frame);
      if (largest.has_inf_nan()) return false;
      std::array<T, width> keys;
      largest.store(keys.data());
      const auto is_near = [](T key) { return key >= T(kLeastKey) && key <= T(kMostKey); };
      if (!first || std::ranges::all_of(keys, is_near)) return true;
      frame = largest;
    }
  }

  void write(T* row, const V& value, bool streams) const {
    if (streams) {
      lanes_.stream(row, value);
    } else {
      lanes_.store(row, value);
    }
  }

  const BiWkvInputs<T>& in_;
  const Lanes<T, N, Whole> lanes_;
  const int64_t batch_, base_, ahead_;
  T* const scratch_;
  const bool streams_;
  const Decay decay_;
  const V bonus_;
};

}  // namespace vrwkv::ops::cpu::VRWKV_ISA
