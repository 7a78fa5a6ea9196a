#pragma once

#include "ops/cuda/bi_wkv_block.cuh"

namespace vrwkv::ops::cuda {

/// Arguments of every Bi-WKV kernel. [B, T, C] tensors are contiguous.
template <typename T, typename In>
struct Inputs {
  const T *w, *u;
  const In *k, *v;
  const In* r;  ///< Logits of the gate, or null.
};

/// Tokens of one thread.
template <typename T, typename In>
struct Tokens {
  T k[kSegment<T>];
  Packed<In, kSegment<T>> v;
  T largest_key;

  __device__ Tokens(const Inputs<T, In>& inputs, const Place<T>& place, int64_t stride)
      : largest_key(empty_key<T>()) {
    const In* k_ptr = inputs.k + place.first_element;
    const In* v_ptr = inputs.v + place.first_element;
#pragma unroll
    for (int i = 0; i < kSegment<T>; ++i) {
      k[i] = i < place.count ? static_cast<T>(k_ptr[i * stride]) : T(-INFINITY);
      v.set(i, i < place.count ? v_ptr[i * stride] : In(0));
    }
#pragma unroll
    for (int i = 0; i < kSegment<T>; ++i) largest_key = ScalarMath<T>::max(largest_key, k[i]);
  }
};

template <typename T>
__device__ T sigmoid(T x) {
  return T(1) / (T(1) + ScalarMath<T>::exp(-x));
}

/// Sums of this thread's segment in both directions, left in shared memory; `push(state, i)` takes in token i.
template <typename Arithmetic, typename T, typename Push>
__device__ void sum_segment(const Place<T>& place, const SharedMemory<T>& shared, const Push& push) {
  using State = typename Arithmetic::State;
  State from_left = Arithmetic::none(), from_right = Arithmetic::none();
#pragma unroll
  for (int i = 0; i < kSegment<T>; ++i) {
    const int last = kSegment<T> - 1 - i;
    if (Arithmetic::kAbsentTermsVanish || i < place.count) push(from_left, i);
    if (Arithmetic::kAbsentTermsVanish || last < place.count) push(from_right, last);
  }
  State* segments = shared.template segments<State>() + place.warp * kLanes + place.lane;
  segments[0] = from_left;
  segments[shared.warps * kLanes] = from_right;
  __syncthreads();
}

/// Joins to `sides` the segments left of this one, and those right of it.
template <typename State, typename T, typename Join>
__device__ void join_segments(Sides<State>& sides, const Place<T>& place, const SharedMemory<T>& shared,
                              const Join& join) {
  const State* segments = shared.template segments<State>() + place.lane;
  for (int warp = 0; warp < place.warp; ++warp) join(sides.left, segments[warp * kLanes]);
  segments += shared.warps * kLanes;
  for (int warp = shared.warps - 1; warp > place.warp; --warp) join(sides.right, segments[warp * kLanes]);
}

/// From the segments' sums in shared memory to what stands left and right of this thread's segment, in the block's frame.
template <typename T, Exchange kExchange, typename Arithmetic>
__device__ Sides<typename Arithmetic::State> forward_sides(Arithmetic& arithmetic, const Place<T>& place,
                                                           const Shape& shape, const SharedMemory<T>& shared, T w,
                                                           const GlobalSums<T>& global) {
  using State = typename Arithmetic::State;
  const auto join = [&](State& state, const State& segment) { arithmetic.join(state, segment, T(kSegment<T>)); };
  Sides<State> sides{Arithmetic::none(), Arithmetic::none()};
  if constexpr (kExchange == Exchange::cluster) {
    total_segments(place, shared, Arithmetic::none(), join, [&](int direction, const State& state) {
      shared.totals(0)[direction * kLanes + place.lane] = arithmetic.leave(state);
    });
    gather_cluster(place, shape, shared, w, 0);
  }
  if constexpr (kExchange != Exchange::none) {
    Sums<T> left, right;
    if constexpr (kExchange == Exchange::cluster) {
      left = shared.incoming()[place.lane];
      right = shared.incoming()[kLanes + place.lane];
    } else {
      left = global.at(0, place, shape);
      right = global.at(1, place, shape);
    }
    arithmetic.reframe(left, right);
    sides = {arithmetic.enter(left), arithmetic.enter(right)};
  }
  join_segments(sides, place, shared, join);
  return sides;
}

/// y, or sigmoid(r) y, of one thread's tokens.
template <typename T, Exchange kExchange, typename Arithmetic, typename In>
__device__ void forward_tokens(const Shape& shape, const Place<T>& place, const SharedMemory<T>& shared,
                               const Inputs<T, In>& inputs, const GlobalSums<T>& global, In* y) {
  using State = typename Arithmetic::State;
  const T w = inputs.w[place.channel];
  Arithmetic arithmetic(w, inputs.u[place.channel]);
  {
    const Tokens<T, In> tokens(inputs, place, shape.channels);
    arithmetic.set_terms(tokens.k, tokens.v, block_largest(tokens.largest_key, place, shared));
  }
  sum_segment<Arithmetic>(place, shared, [&](State& state, int i) { arithmetic.push(state, i); });
  const Sides<State> sides = forward_sides<T, kExchange>(arithmetic, place, shape, shared, w, global);

  State right[kSegment<T>];
  State state = sides.right;
#pragma unroll
  for (int i = kSegment<T> - 1; i >= 0; --i) {
    right[i] = state;
    if (Arithmetic::kAbsentTermsVanish || i < place.count) arithmetic.push(state, i);
  }
  state = sides.left;
#pragma unroll
  for (int i = 0; i < kSegment<T>; ++i) {
    const int64_t element = place.first_element + i * shape.channels;
    if (i < place.count) {
      T result = arithmetic.output(state, right[i], i).y;
      if (inputs.r != nullptr) result *= sigmoid(static_cast<T>(inputs.r[element]));
      if (place.inside) y[element] = static_cast<In>(result);
    }
    arithmetic.push(state, i);
  }
  leave_cluster<kExchange>();
}

/// The sums of a chunk in both directions.
template <typename T, typename Arithmetic, typename In>
__device__ void total_tokens(const Shape& shape, const Place<T>& place, const SharedMemory<T>& shared,
                             const Inputs<T, In>& inputs, const GlobalSums<T>& totals) {
  using State = typename Arithmetic::State;
  Arithmetic arithmetic(inputs.w[place.channel], inputs.u[place.channel]);
  const Tokens<T, In> tokens(inputs, place, shape.channels);
  arithmetic.set_terms(tokens.k, tokens.v, block_largest(tokens.largest_key, place, shared));
  sum_segment<Arithmetic>(place, shared, [&](State& state, int i) { arithmetic.push(state, i); });
  total_segments(
      place, shared, Arithmetic::none(),
      [&](State& state, const State& segment) { arithmetic.join(state, segment, T(kSegment<T>)); },
      [&](int direction, const State& state) {
        if (place.inside) totals.at(direction, place, shape) = arithmetic.leave(state);
      });
}

/// Calls `body.template operator()<Arithmetic>()` with the fastest arithmetic that is right for all channels of the block.
template <typename T, typename In, typename Body>
__device__ void with_arithmetic(const Shape& shape, const Place<T>& place, const Inputs<T, In>& inputs,
                                const Body& body) {
  if constexpr (sizeof(T) == 4) {
    using Fast = Framed<In, kSegment<T>>;
    const bool fits = Fast::fits(inputs.w[place.channel], inputs.u[place.channel], shape.warps * kSegment<T>, shape.tokens);
    if (!__syncthreads_or(!fits)) {
      body(static_cast<Fast*>(nullptr));
      return;
    }
  }
  body(static_cast<Exact<T, In, kSegment<T>>*>(nullptr));
}

template <typename T, typename In, Exchange kExchange>
__global__ void __maxnreg__(sizeof(T) == 4 ? 72 : 128)
    forward_kernel(Shape shape, Inputs<T, In> inputs, GlobalSums<T> global, In* __restrict__ y) {
  extern __shared__ __align__(16) char memory[];
  const SharedMemory<T> shared{memory, shape.warps};
  const Place<T> place(shape);
  with_arithmetic(shape, place, inputs, [&](auto* arithmetic) {
    forward_tokens<T, kExchange, std::remove_pointer_t<decltype(arithmetic)>>(shape, place, shared, inputs, global, y);
  });
}

template <typename T, typename In>
__global__ void __maxnreg__(sizeof(T) == 4 ? 72 : 128)
    totals_kernel(Shape shape, Inputs<T, In> inputs, GlobalSums<T> totals) {
  extern __shared__ __align__(16) char memory[];
  const SharedMemory<T> shared{memory, shape.warps};
  const Place<T> place(shape);
  with_arithmetic(shape, place, inputs, [&](auto* arithmetic) {
    total_tokens<T, std::remove_pointer_t<decltype(arithmetic)>>(shape, place, shared, inputs, totals);
  });
}

}  // namespace vrwkv::ops::cuda
