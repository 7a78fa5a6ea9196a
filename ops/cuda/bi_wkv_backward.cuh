#pragma once

#include "ops/cuda/bi_wkv_forward.cuh"

namespace vrwkv::ops::cuda {

template <typename T, typename In>
struct Gradients_ {
  const In* gy;
  In *gk, *gv, *gr;       ///< gr is null without a gate.
  T *gw_parts, *gu_parts; ///< [batch * chunks, channels]
};

/// Forward and backward of one thread's tokens; with kTotalsOnly, no more than the chunk's sums of gradient terms.
///
/// The forward pass is repeated, since reading k and v again costs less than any stored sums.
template <typename T, Exchange kExchange, bool kTotalsOnly, typename Arithmetic, typename In>
__device__ void backward_tokens(const Shape& shape, const Place<T>& place, const SharedMemory<T>& shared,
                                const Inputs<T, In>& inputs, const GlobalSums<T>& global,
                                const GlobalSums<T>& gradient_global, const Gradients_<T, In>& gradients) {
  using State = typename Arithmetic::State;
  constexpr int kTokens = kSegment<T>;
  const T w = inputs.w[place.channel];
  Arithmetic arithmetic(w, inputs.u[place.channel]);
  {
    const Tokens<T, In> tokens(inputs, place, shape.channels);
    arithmetic.set_terms(tokens.k, tokens.v, block_largest(tokens.largest_key, place, shared));
  }
  sum_segment<Arithmetic>(place, shared, [&](State& state, int i) { arithmetic.push(state, i); });
  const Sides<State> sides = forward_sides<T, kExchange>(arithmetic, place, shape, shared, w, global);

  State right[kTokens];
  State state = sides.right;
#pragma unroll
  for (int i = kTokens - 1; i >= 0; --i) {
    right[i] = state;
    if (Arithmetic::kAbsentTermsVanish || i < place.count) arithmetic.push(state, i);
  }
  state = sides.left;
#pragma unroll
  for (int i = 0; i < kTokens; ++i) {
    const int64_t element = place.first_element + i * shape.channels;
    const TokenOutput<T> out = arithmetic.output(state, right[i], i);
    T gradient = i < place.count ? static_cast<T>(gradients.gy[element]) : T(0);
    if (inputs.r != nullptr && i < place.count) {
      const T gate = sigmoid(static_cast<T>(inputs.r[element]));
      if (!kTotalsOnly && place.inside) {
        gradients.gr[element] = static_cast<In>(gradient * out.y * gate * (T(1) - gate));
      }
      gradient *= gate;
    }
    const T q = gradient * out.inverse;
    shared.stash(place, 0, i) = q;
    shared.stash(place, 1, i) = q * out.y;
    if constexpr (!Arithmetic::kAbsentTermsVanish) shared.stash(place, 2, i) = out.key;
    arithmetic.push(state, i);
  }
  const auto push_gradient = [&](State& sums, int i) {
    const T key = Arithmetic::kAbsentTermsVanish ? T(0) : shared.stash(place, 2, i);
    arithmetic.push_gradient(sums, shared.stash(place, 0, i), shared.stash(place, 1, i), key);
  };
  const auto join_gradient = [&](State& sums, const State& segment) {
    arithmetic.join_gradient(sums, segment, T(kTokens));
  };
  __syncthreads();  // The segments' forward sums are read; their memory takes the gradient sums now.
  sum_segment<Arithmetic>(place, shared, push_gradient);
  if constexpr (kTotalsOnly) {
    total_segments(place, shared, Arithmetic::none(), join_gradient, [&](int direction, const State& sums) {
      if (place.inside) gradient_global.at(direction, place, shape) = arithmetic.leave_gradient(sums);
    });
    return;
  }
  Sides<State> gradient_sides{Arithmetic::none(), Arithmetic::none()};
  if constexpr (kExchange == Exchange::cluster) {
    total_segments(place, shared, Arithmetic::none(), join_gradient, [&](int direction, const State& sums) {
      shared.totals(1)[direction * kLanes + place.lane] = arithmetic.leave_gradient(sums);
    });
    gather_cluster(place, shape, shared, w, 1);
    gradient_sides = {arithmetic.enter_gradient(shared.incoming()[place.lane]),
                      arithmetic.enter_gradient(shared.incoming()[kLanes + place.lane])};
  } else if constexpr (kExchange == Exchange::global) {
    gradient_sides = {arithmetic.enter_gradient(gradient_global.at(0, place, shape)),
                      arithmetic.enter_gradient(gradient_global.at(1, place, shape))};
  }
  join_segments(gradient_sides, place, shared, join_gradient);

  state = gradient_sides.right;
#pragma unroll
  for (int i = kTokens - 1; i >= 0; --i) {
    right[i] = state;
    if (Arithmetic::kAbsentTermsVanish || i < place.count) push_gradient(state, i);
  }
  T gw = T(0), gu = T(0);
  state = gradient_sides.left;
  State forward_state = sides.left;
#pragma unroll
  for (int i = 0; i < kTokens; ++i) {
    if (i < place.count) {
      const int64_t element = place.first_element + i * shape.channels;
      const T key = Arithmetic::kAbsentTermsVanish ? T(0) : shared.stash(place, 2, i);
      const TokenGradients<T> token =
          arithmetic.gradients(i, shared.stash(place, 0, i), shared.stash(place, 1, i), key, state, right[i]);
      if (place.inside) {
        gradients.gk[element] = static_cast<In>(token.gk);
        gradients.gv[element] = static_cast<In>(token.gv);
      }
      gu += token.gu;
      gw += arithmetic.pairs(forward_state, right[i]);
    }
    right[i] = state;
    push_gradient(state, i);
    arithmetic.push(forward_state, i);
  }
  forward_state = sides.right;
#pragma unroll
  for (int i = kTokens - 1; i >= 0; --i) {
    if (i < place.count) {
      gw += arithmetic.pairs(forward_state, right[i]);
      arithmetic.push(forward_state, i);
    }
  }
  gw = block_sum(gw, place, shared);
  gu = block_sum(gu, place, shared);
  if (place.warp == 0 && place.inside) {
    gradients.gw_parts[place.chunk_index(shape)] = gw;
    gradients.gu_parts[place.chunk_index(shape)] = gu;
  }
  leave_cluster<kExchange>();
}

template <typename T, typename In, Exchange kExchange, bool kTotalsOnly>
__global__ void __maxnreg__(VRWKV_BWD_REGS)
    backward_kernel(Shape shape, Inputs<T, In> inputs, GlobalSums<T> global, GlobalSums<T> gradient_global,
                    Gradients_<T, In> gradients) {
  extern __shared__ __align__(16) char memory[];
  const SharedMemory<T> shared{memory, shape.warps};
  const Place<T> place(shape);
  with_arithmetic(shape, place, inputs, [&](auto* arithmetic) {
    backward_tokens<T, kExchange, kTotalsOnly, std::remove_pointer_t<decltype(arithmetic)>>(
        shape, place, shared, inputs, global, gradient_global, gradients);
  });
}

}  // namespace vrwkv::ops::cuda
