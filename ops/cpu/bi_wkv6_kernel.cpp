#include "ops/cpu/bi_wkv6_kernel.h"

#include <ATen/cpu/vec/functional.h>
#include <ATen/cpu/vec/vec.h>

#include <algorithm>
#include <array>
#include <memory>

#include "ops/bi_wkv6_head.h"
#include "ops/cpu/parallel_for.h"

namespace vrwkv::ops::cpu::VRWKV_ISA {
namespace {

using at::vec::Vectorized;

constexpr int64_t kSide = kBiWkv6HeadSize;
constexpr int64_t kStateSize = kSide * kSide;

/// Tokens between two kept states in the backward pass: the states inside such a stretch are recomputed and should stay
/// in a core's cache.
constexpr int64_t kStretch = 16;

/// A row of a state, or one token's channels of a head, in registers.
template <typename T>
struct Row {
  using V = Vectorized<T>;
  static constexpr int64_t parts = kSide / V::size();
  std::array<V, static_cast<size_t>(parts)> part;

  explicit Row(const T* source) {
    for (int64_t p = 0; p < parts; ++p) part[static_cast<size_t>(p)] = V::loadu(source + p * V::size());
  }
  Row() { part.fill(V(T(0))); }

  void store(T* target) const {
    for (int64_t p = 0; p < parts; ++p) part[static_cast<size_t>(p)].store(target + p * V::size());
  }

  /// this += factor * other
  void add(T factor, const Row& other) {
    const V broadcast(factor);
    for (size_t p = 0; p < part.size(); ++p) part[p] = at::vec::fmadd(broadcast, other.part[p], part[p]);
  }

  /// this = decay * this + factor * other
  void advance(T decay, T factor, const Row& other) {
    const V broadcast(decay), added(factor);
    for (size_t p = 0; p < part.size(); ++p) part[p] = at::vec::fmadd(broadcast, part[p], added * other.part[p]);
  }

  T dot(const Row& other) const {
    V sum = part[0] * other.part[0];
    for (size_t p = 1; p < part.size(); ++p) sum = at::vec::fmadd(part[p], other.part[p], sum);
    return at::vec::vec_reduce_all<T>([](const V& a, const V& b) { return a + b; }, sum);
  }
};

/// The tokens of one head of one batch element in one direction of time: where the n-th one's channels begin.
struct Walk {
  int64_t tokens, first, step;
  int64_t operator()(int64_t n) const { return first + n * step; }
};

template <typename T>
Walk make_walk(const BiWkv6Inputs<T>& in, int64_t b, int64_t head, bool backwards) {
  const int64_t channels = in.heads * kSide;
  const int64_t first = (b * in.tokens + (backwards ? in.tokens - 1 : 0)) * channels + head * kSide;
  return {in.tokens, first, backwards ? -channels : channels};
}

/// state = diag(decay) state + k^T v, for the token at `at`.
template <typename T>
void advance(const BiWkv6Inputs<T>& in, int64_t at, const T* state, T* next) {
  const Row<T> v(in.v + at);
  for (int64_t i = 0; i < kSide; ++i) {
    Row<T> row(state + i * kSide);
    row.advance(in.decay[at + i], in.k[at + i], v);
    row.store(next + i * kSide);
  }
}

/// What the token itself adds to its result: y = (sum_i r_i u_i k_i) v.
template <typename T>
T self_weight(const BiWkv6Inputs<T>& in, int64_t at, const T* u) {
  T sum = 0;
  for (int64_t i = 0; i < kSide; ++i) sum += in.r[at + i] * u[i] * in.k[at + i];
  return sum;
}

template <typename T>
void forward_self(const BiWkv6Inputs<T>& in, const Walk& walk, const T* u, T* y) {
  for (int64_t n = 0; n < walk.tokens; ++n) {
    Row<T> row;
    row.add(self_weight(in, walk(n), u), Row<T>(in.v + walk(n)));
    row.store(y + walk(n));
  }
}

/// y += r S along the walk.
template <typename T>
void forward_scan(const BiWkv6Inputs<T>& in, const Walk& walk, T* state, T* y) {
  std::fill_n(state, kStateSize, T(0));
  for (int64_t n = 0; n < walk.tokens; ++n) {
    const int64_t at = walk(n);
    const Row<T> v(in.v + at);
    Row<T> result(y + at);
    for (int64_t i = 0; i < kSide; ++i) {
      Row<T> row(state + i * kSide);
      result.add(in.r[at + i], row);
      row.advance(in.decay[at + i], in.k[at + i], v);
      row.store(state + i * kSide);
    }
    result.store(y + at);
  }
}

template <typename T>
void backward_self(const BiWkv6Inputs<T>& in, const BiWkv6GradientPointers<T>& out, const Walk& walk, const T* u,
                   T* gu) {
  std::fill_n(gu, kSide, T(0));
  for (int64_t n = 0; n < walk.tokens; ++n) {
    const int64_t at = walk(n);
    const Row<T> gy(out.gy + at);
    const T common = gy.dot(Row<T>(in.v + at));
    Row<T> gv;
    gv.add(self_weight(in, at, u), gy);
    gv.store(out.gv + at);
    for (int64_t i = 0; i < kSide; ++i) {
      const T r = in.r[at + i], k = in.k[at + i];
      out.gr[at + i] = u[i] * k * common;
      out.gk[at + i] = u[i] * r * common;
      gu[i] += r * k * common;
      out.gdecay[at + i] = T(0);
    }
  }
}

/// One token's gradients from the state S before it and the gradient R of the state after it, which becomes that of S:
/// gr += S gy,  gdecay += rows of S * R,  gk += R v,  gv += k R,  R = diag(decay) R + r^T gy.
template <typename T>
void backward_token(const BiWkv6Inputs<T>& in, const BiWkv6GradientPointers<T>& out, int64_t at, const T* state,
                    T* adjoint) {
  const Row<T> v(in.v + at), gy(out.gy + at);
  Row<T> gv(out.gv + at);
  for (int64_t i = 0; i < kSide; ++i) {
    const Row<T> before(state + i * kSide);
    Row<T> after(adjoint + i * kSide);
    out.gr[at + i] += before.dot(gy);
    out.gdecay[at + i] += before.dot(after);
    out.gk[at + i] += after.dot(v);
    gv.add(in.k[at + i], after);
    after.advance(in.decay[at + i], in.r[at + i], gy);
    after.store(adjoint + i * kSide);
  }
  gv.store(out.gv + at);
}

/// States that the backward pass of one walk keeps: one for every stretch, those inside one, and an adjoint.
template <typename T>
class Scratch {
 public:
  explicit Scratch(int64_t tokens)
      : states_(std::make_unique_for_overwrite<T[]>(
            static_cast<size_t>(((tokens + kStretch - 1) / kStretch + kStretch + 1) * kStateSize))) {}

  T* adjoint() { return states_.get(); }
  T* inside(int64_t n) { return states_.get() + (1 + n) * kStateSize; }
  T* start(int64_t stretch) { return inside(kStretch + stretch); }

 private:
  std::unique_ptr<T[]> states_;
};

/// Leaves the state before every stretch in scratch.start.
template <typename T>
void keep_starts(const BiWkv6Inputs<T>& in, const Walk& walk, Scratch<T>& scratch) {
  T* state = scratch.inside(0);
  std::fill_n(state, kStateSize, T(0));
  for (int64_t n = 0; n < walk.tokens; ++n) {
    if (n % kStretch == 0) std::copy_n(state, kStateSize, scratch.start(n / kStretch));
    advance(in, walk(n), state, state);
  }
}

template <typename T>
void backward_scan(const BiWkv6Inputs<T>& in, const BiWkv6GradientPointers<T>& out, const Walk& walk,
                   Scratch<T>& scratch) {
  keep_starts(in, walk, scratch);
  std::fill_n(scratch.adjoint(), kStateSize, T(0));
  for (int64_t stretch = (walk.tokens - 1) / kStretch; stretch >= 0; --stretch) {
    const int64_t first = stretch * kStretch;
    const int64_t count = std::min(kStretch, walk.tokens - first);
    std::copy_n(scratch.start(stretch), kStateSize, scratch.inside(0));
    for (int64_t n = 0; n + 1 < count; ++n) advance(in, walk(first + n), scratch.inside(n), scratch.inside(n + 1));
    for (int64_t n = count - 1; n >= 0; --n) {
      backward_token(in, out, walk(first + n), scratch.inside(n), scratch.adjoint());
    }
  }
}

}  // namespace

template <typename T>
void bi_wkv6_forward(const BiWkv6Inputs<T>& in, T* y) {
  at::parallel_for(0, in.batch * in.heads, 1, [&](int64_t begin, int64_t end) {
    const auto state = std::make_unique_for_overwrite<T[]>(static_cast<size_t>(kStateSize));
    for (int64_t task = begin; task < end; ++task) {
      const int64_t b = task / in.heads, head = task % in.heads;
      const Walk onwards = make_walk(in, b, head, false);
      forward_self(in, onwards, in.u + head * kSide, y);
      forward_scan(in, onwards, state.get(), y);
      forward_scan(in, make_walk(in, b, head, true), state.get(), y);
    }
  });
}

template <typename T>
void bi_wkv6_backward(const BiWkv6Inputs<T>& in, const BiWkv6GradientPointers<T>& gradients) {
  at::parallel_for(0, in.batch * in.heads, 1, [&](int64_t begin, int64_t end) {
    Scratch<T> scratch(in.tokens);
    for (int64_t task = begin; task < end; ++task) {
      const int64_t b = task / in.heads, head = task % in.heads;
      const Walk onwards = make_walk(in, b, head, false);
      backward_self(in, gradients, onwards, in.u + head * kSide, gradients.gu + task * kSide);
      backward_scan(in, gradients, onwards, scratch);
      backward_scan(in, gradients, make_walk(in, b, head, true), scratch);
    }
  });
}

template void bi_wkv6_forward<float>(const BiWkv6Inputs<float>&, float*);
template void bi_wkv6_forward<double>(const BiWkv6Inputs<double>&, double*);
template void bi_wkv6_backward<float>(const BiWkv6Inputs<float>&, const BiWkv6GradientPointers<float>&);
template void bi_wkv6_backward<double>(const BiWkv6Inputs<double>&, const BiWkv6GradientPointers<double>&);

}  // namespace vrwkv::ops::cpu::VRWKV_ISA
