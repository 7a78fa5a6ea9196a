#pragma once

// The arithmetic of Bi-WKV's scans, written once for scalars (CUDA) and for vectors of channels (CPU).
//
// One direction of the attention is a scan over tokens of terms e^{key_i - n_i w} (a_i, b_i), where n_i is the number
// of tokens between term i and the position of the scan. The forward pass scans (key, a, b) = (k_i, v_i, 1); the
// backward pass scans (-m_t, g_t, g_t y_t), m_t being the largest exponent of token t's own sums. The same state serves
// both.
//
// The largest exponent is kept as (key, n), not as the number key - n w: subtracting w token by token would lose one
// rounding a token, which over 16,384 tokens costs float32 three digits.

#if defined(__CUDACC__)
#define VRWKV_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define VRWKV_HOST_DEVICE inline
#endif

namespace vrwkv::ops {

/// Key of a sum with no term: finite, so that no difference of two keys is NaN, and far below any real exponent.
template <typename S>
VRWKV_HOST_DEVICE constexpr S empty_key() {
  return S(-1e30);
}

/// What is added up: a and b relative to the largest exponent, which is key - n w.
template <typename V>
struct Sums {
  V a, b, key, n;
};

/// Sums and, for the derivative by w, each term once more, times n_i - n: distances are kept relative to that of the
/// largest term, since for w < 0 the far tokens count and their distances alone would cancel out to noise.
template <typename V>
struct WeightedSums : Sums<V> {
  V na, nb;
};

/// Scales that bring two sums with largest exponents `x` and `y` to the larger of them; one of the two is 1.
template <typename M, typename V>
struct Rescale {
  typename M::Mask keep;  ///< Where x is the larger.
  V x_scale, y_scale;
  VRWKV_HOST_DEVICE Rescale(V x, V y) : keep(M::greater_equal(x, y)) {
    const V small = M::exp(M::neg_abs(x - y));
    x_scale = M::select(keep, V(1), small);
    y_scale = M::select(keep, small, V(1));
  }
};

template <typename M, typename V>
VRWKV_HOST_DEVICE void clear(Sums<V>& s) {
  s.a = s.b = s.n = V(0);
  s.key = V(empty_key<typename M::Scalar>());
}

template <typename M, typename V>
VRWKV_HOST_DEVICE void clear(WeightedSums<V>& s) {
  clear<M>(static_cast<Sums<V>&>(s));
  s.na = s.nb = V(0);
}

/// Moves the scan one token on and takes in the term of the token it passed.
template <typename M, typename V>
VRWKV_HOST_DEVICE void push(Sums<V>& s, V w, V key, V a, V b) {
  const V moved = s.n + V(1);
  const Rescale<M, V> r(M::fnmadd(moved, w, s.key), key);
  s.a = M::fmadd(s.a, r.x_scale, a * r.y_scale);
  s.b = M::fmadd(s.b, r.x_scale, b * r.y_scale);
  s.key = M::select(r.keep, s.key, key);
  s.n = M::select(r.keep, moved, V(0));
}

template <typename M, typename V>
VRWKV_HOST_DEVICE void push(WeightedSums<V>& s, V w, V key, V a, V b) {
  const V moved = s.n + V(1);
  const Rescale<M, V> r(M::fnmadd(moved, w, s.key), key);
  const V old_shift = M::select(r.keep, V(0), moved);
  const V new_shift = M::select(r.keep, moved, V(0)) * r.y_scale;
  s.na = M::fnmadd(new_shift, a, M::fmadd(old_shift, s.a, s.na) * r.x_scale);
  s.nb = M::fnmadd(new_shift, b, M::fmadd(old_shift, s.b, s.nb) * r.x_scale);
  s.a = M::fmadd(s.a, r.x_scale, a * r.y_scale);
  s.b = M::fmadd(s.b, r.x_scale, b * r.y_scale);
  s.key = M::select(r.keep, s.key, key);
  s.n = M::select(r.keep, moved, V(0));
}

/// The largest exponent of the sums.
template <typename M, typename V>
VRWKV_HOST_DEVICE V exponent(const Sums<V>& s, V w) {
  return M::fnmadd(s.n, w, s.key);
}

/// Moves `s` on by `tokens` and adds the sums of exactly those tokens: what joins the segments of a split scan.
template <typename M, typename V>
VRWKV_HOST_DEVICE void join(Sums<V>& s, V w, V tokens, const Sums<V>& segment) {
  const V moved = s.n + tokens;
  const Rescale<M, V> r(M::fnmadd(moved, w, s.key), exponent<M>(segment, w));
  s.a = M::fmadd(s.a, r.x_scale, segment.a * r.y_scale);
  s.b = M::fmadd(s.b, r.x_scale, segment.b * r.y_scale);
  s.key = M::select(r.keep, s.key, segment.key);
  s.n = M::select(r.keep, moved, segment.n);
}

template <typename M, typename V>
VRWKV_HOST_DEVICE void join(WeightedSums<V>& s, V w, V tokens, const WeightedSums<V>& segment) {
  const V moved = s.n + tokens;
  const Rescale<M, V> r(M::fnmadd(moved, w, s.key), exponent<M>(segment, w));
  const V old_shift = M::select(r.keep, V(0), moved - segment.n);
  const V new_shift = M::select(r.keep, moved - segment.n, V(0));
  s.na = M::fmadd(old_shift, s.a, s.na) * r.x_scale + M::fnmadd(new_shift, segment.a, segment.na) * r.y_scale;
  s.nb = M::fmadd(old_shift, s.b, s.nb) * r.x_scale + M::fnmadd(new_shift, segment.b, segment.nb) * r.y_scale;
  s.a = M::fmadd(s.a, r.x_scale, segment.a * r.y_scale);
  s.b = M::fmadd(s.b, r.x_scale, segment.b * r.y_scale);
  s.key = M::select(r.keep, s.key, segment.key);
  s.n = M::select(r.keep, moved, segment.n);
}

/// One token's result: y, and its denominator relative to e^m.
template <typename V>
struct Output {
  V y, denominator, m;
};

/// Joins what stands left and right of a token (sums a, b at exponent e) with the token's own term.
template <typename M, typename V>
VRWKV_HOST_DEVICE Output<V> finish(const Sums<V>& left, V right_a, V right_b, V right_e, V w, V u, V k, V v) {
  const V left_e = exponent<M>(left, w);
  const V own_e = u + k;
  const V m = M::max(M::max(left_e, right_e), own_e);
  const V left_scale = M::exp(left_e - m);
  const V right_scale = M::exp(right_e - m);
  const V own_scale = M::exp(own_e - m);
  const V numerator = M::fmadd(left.a, left_scale, M::fmadd(right_a, right_scale, v * own_scale));
  const V denominator = M::fmadd(left.b, left_scale, M::fmadd(right_b, right_scale, own_scale));
  return {numerator / denominator, denominator, m};
}

/// One token's gradients from one direction: gv, gk and the token's part of gw. e^{k + exponent} never exceeds 1 by
/// more than rounding, as -m_t bounds every exponent that token t has seen.
template <typename V>
struct Gradients {
  V gv, gk, gw;
};

template <typename M, typename V>
VRWKV_HOST_DEVICE Gradients<V> differentiate(const WeightedSums<V>& s, V w, V k, V v) {
  const V scale = M::exp(k + exponent<M>(s, w));
  const V gv = s.a * scale;
  const V distant_a = M::fmadd(s.n, s.a, s.na);
  const V distant_b = M::fmadd(s.n, s.b, s.nb);
  return {gv, M::fmadd(v, gv, V(0) - s.b * scale), M::fnmadd(v, distant_a, distant_b) * scale};
}

}  // namespace vrwkv::ops
