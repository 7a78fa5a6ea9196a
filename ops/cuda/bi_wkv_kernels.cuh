#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "ops/bi_wkv_state.h"

// Device side of Bi-WKV. Tokens are split into segments of kSegment; a thread owns one channel of one segment.
//   1. summarize_kernel: every segment's own sums, in both directions.
//   2. carry_kernel: turns them into what stands left and right of each segment (an exclusive scan over segments).
//   3. a finishing kernel: from those carries, the scans inside the segment and the result.
// Nothing is added atomically, so results do not change from run to run.

namespace vrwkv::ops::cuda {

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

/// Tokens of a segment: as many as fit the registers, with their partial results.
template <typename T>
constexpr int kSegment = sizeof(T) == 4 ? 16 : 8;

constexpr int kThreads = 128;

/// Sizes of one call; `segments` is ceil(tokens / kSegment).
struct Shape {
  int64_t batch, tokens, channels, segments;
};

/// Where a thread works; `b` is out of range for surplus threads.
template <typename T>
struct Place {
  int64_t b, segment, channel, first_token, first_element;
  int count;  ///< Tokens of the segment, less than kSegment at the end of the sequence.

  __device__ Place(const Shape& shape, int64_t index) {
    channel = index % shape.channels;
    segment = index / shape.channels % shape.segments;
    b = index / (shape.channels * shape.segments);
    first_token = segment * kSegment<T>;
    const int64_t left = shape.tokens - first_token;
    count = left < kSegment<T> ? static_cast<int>(left) : kSegment<T>;
    first_element = (b * shape.tokens + first_token) * shape.channels + channel;
  }
};

/// The terms that the forward pass scans: (k, v, 1).
template <typename T, typename In>
struct ForwardTerms {
  using State = Sums<T>;
  const In *k, *v;
  __device__ void push(State& state, T w, int64_t element) const {
    vrwkv::ops::push<ScalarMath<T>>(state, w, static_cast<T>(k[element]), static_cast<T>(v[element]), T(1));
  }
};

/// The terms that the backward pass scans: (-m, g, h), written by forward_kernel.
template <typename T>
struct BackwardTerms {
  using State = WeightedSums<T>;
  const T *key, *g, *h;
  __device__ void push(State& state, T w, int64_t element) const {
    vrwkv::ops::push<ScalarMath<T>>(state, w, key[element], g[element], h[element]);
  }
};

/// [2][batch][segments][channels] states; direction 0 is what comes from the left, 1 from the right.
template <typename T, typename Terms>
__global__ void __launch_bounds__(kThreads) summarize_kernel(Shape shape, const T* __restrict__ w_ptr, Terms terms,
                                                             typename Terms::State* __restrict__ states) {
  const int64_t per_direction = shape.batch * shape.segments * shape.channels;
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (index >= per_direction) return;
  const Place<T> place(shape, index);
  const T w = w_ptr[place.channel];
  typename Terms::State left, right;
  clear<ScalarMath<T>>(left);
  clear<ScalarMath<T>>(right);
  for (int i = 0; i < place.count; ++i) terms.push(left, w, place.first_element + i * shape.channels);
  for (int i = place.count - 1; i >= 0; --i) terms.push(right, w, place.first_element + i * shape.channels);
  states[index] = left;
  states[per_direction + index] = right;
}

/// Replaces every segment's sums by the sums of all segments before it (direction 0) or behind it (direction 1).
template <typename T, typename State>
__global__ void __launch_bounds__(kThreads)
    carry_kernel(Shape shape, const T* __restrict__ w_ptr, State* __restrict__ states) {
  const int64_t columns = shape.batch * shape.channels;
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (index >= 2 * columns) return;
  const bool from_right = index >= columns;
  const int64_t column = from_right ? index - columns : index;
  const int64_t b = column / shape.channels;
  const int64_t channel = column % shape.channels;
  const T w = w_ptr[channel];
  State* base = states + ((from_right ? shape.batch : 0) + b) * shape.segments * shape.channels + channel;
  const int64_t last_count = shape.tokens - (shape.segments - 1) * kSegment<T>;

  State carry;
  clear<ScalarMath<T>>(carry);
  for (int64_t step = 0; step < shape.segments; ++step) {
    const int64_t segment = from_right ? shape.segments - 1 - step : step;
    State* place = base + segment * shape.channels;
    const State own = *place;
    *place = carry;
    const T count = static_cast<T>(segment == shape.segments - 1 ? last_count : kSegment<T>);
    join<ScalarMath<T>>(carry, w, count, own);
  }
}

/// y of every token; for the backward pass instead its terms: key = -m, g = gy / denominator, h = g y.
template <typename T, typename In, bool kForBackward>
__global__ void __launch_bounds__(kThreads)
    forward_kernel(Shape shape, const T* __restrict__ w_ptr, const T* __restrict__ u_ptr, const In* __restrict__ k_ptr,
                   const In* __restrict__ v_ptr, const Sums<T>* __restrict__ carries, In* __restrict__ y,
                   const In* __restrict__ gy, T* __restrict__ key, T* __restrict__ g, T* __restrict__ h) {
  using M = ScalarMath<T>;
  const int64_t per_direction = shape.batch * shape.segments * shape.channels;
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (index >= per_direction) return;
  const Place<T> place(shape, index);
  const T w = w_ptr[place.channel];
  const T u = u_ptr[place.channel];

  T k[kSegment<T>], v[kSegment<T>], right_a[kSegment<T>], right_b[kSegment<T>], right_e[kSegment<T>];
#pragma unroll
  for (int i = 0; i < kSegment<T>; ++i) {
    const int64_t element = place.first_element + i * shape.channels;
    k[i] = i < place.count ? static_cast<T>(k_ptr[element]) : T(0);
    v[i] = i < place.count ? static_cast<T>(v_ptr[element]) : T(0);
  }
  Sums<T> sums = carries[per_direction + index];
#pragma unroll
  for (int i = kSegment<T> - 1; i >= 0; --i) {
    if (i < place.count) {
      right_a[i] = sums.a;
      right_b[i] = sums.b;
      right_e[i] = exponent<M>(sums, w);
      push<M>(sums, w, k[i], v[i], T(1));
    }
  }
  sums = carries[index];
#pragma unroll
  for (int i = 0; i < kSegment<T>; ++i) {
    if (i < place.count) {
      const Output<T> out = finish<M>(sums, right_a[i], right_b[i], right_e[i], w, u, k[i], v[i]);
      const int64_t element = place.first_element + i * shape.channels;
      if constexpr (kForBackward) {
        const T gradient = static_cast<T>(gy[element]) / out.denominator;
        key[element] = -out.m;
        g[element] = gradient;
        h[element] = gradient * out.y;
      } else {
        y[element] = static_cast<In>(out.y);
      }
      push<M>(sums, w, k[i], v[i], T(1));
    }
  }
}

/// gk and gv of every token, and the segment's parts of gw and gu, [batch * segments, channels].
template <typename T, typename In>
__global__ void __launch_bounds__(kThreads)
    backward_kernel(Shape shape, const T* __restrict__ w_ptr, const T* __restrict__ u_ptr, const In* __restrict__ k_ptr,
                    const In* __restrict__ v_ptr, BackwardTerms<T> terms, const WeightedSums<T>* __restrict__ carries,
                    In* __restrict__ gk_ptr, In* __restrict__ gv_ptr, T* __restrict__ gw_part,
                    T* __restrict__ gu_part) {
  using M = ScalarMath<T>;
  const int64_t per_direction = shape.batch * shape.segments * shape.channels;
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (index >= per_direction) return;
  const Place<T> place(shape, index);
  const T w = w_ptr[place.channel];
  const T u = u_ptr[place.channel];
  T gk[kSegment<T>], gv[kSegment<T>];
  T gw = T(0), gu = T(0);

  WeightedSums<T> sums = carries[per_direction + index];
#pragma unroll
  for (int i = kSegment<T> - 1; i >= 0; --i) {
    if (i < place.count) {
      const int64_t element = place.first_element + i * shape.channels;
      const Gradients<T> right =
          differentiate<M>(sums, w, static_cast<T>(k_ptr[element]), static_cast<T>(v_ptr[element]));
      gk[i] = right.gk;
      gv[i] = right.gv;
      gw += right.gw;
      terms.push(sums, w, element);
    }
  }
  sums = carries[index];
#pragma unroll
  for (int i = 0; i < kSegment<T>; ++i) {
    if (i < place.count) {
      const int64_t element = place.first_element + i * shape.channels;
      const T k = static_cast<T>(k_ptr[element]);
      const T v = static_cast<T>(v_ptr[element]);
      const Gradients<T> left = differentiate<M>(sums, w, k, v);
      const T own_scale = M::exp(u + k + terms.key[element]);
      const T own_gk = (v * terms.g[element] - terms.h[element]) * own_scale;
      gv_ptr[element] = static_cast<In>(gv[i] + left.gv + terms.g[element] * own_scale);
      gk_ptr[element] = static_cast<In>(gk[i] + left.gk + own_gk);
      gw += left.gw;
      gu += own_gk;
      terms.push(sums, w, element);
    }
  }
  gw_part[index] = gw;
  gu_part[index] = gu;
}

}  // namespace vrwkv::ops::cuda
