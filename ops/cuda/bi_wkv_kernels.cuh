#pragma once

// The kernels of Bi-WKV. Each block takes the framed arithmetic if all its channels allow it, else the exact one; all
// blocks of a sequence and channel group decide alike.

#include "ops/cuda/bi_wkv_exact.cuh"
#include "ops/cuda/bi_wkv_framed_backward.cuh"

namespace vrwkv::ops::cuda {

// Parameters are __grid_constant__ so that exact functions can take their address without a copy in every thread.

/// Registers of a thread: two blocks of 10 warps (a sequence of 196 tokens), or of 8, fit a multiprocessor.
template <typename T, Exchange kExchange>
constexpr int kRegisters = sizeof(T) != 4                ? 128
                           : kExchange == Exchange::none ? 96
                                                         : 128;

template <typename P, typename T, typename In>
__device__ bool takes_frame(const Shape& shape, const P& place, const Inputs<T, In>& inputs) {
  if constexpr (sizeof(T) != 4) {
    return false;
  } else {
    const bool fits =
        Frame::fits(inputs.w[place.channel], inputs.u[place.channel], shape.warps * P::kTokens, shape.tokens);
    return __syncthreads_and(fits) != 0;
  }
}

/// y, or sigmoid(r) y with a gate.
template <typename T, typename In, Exchange kExchange, bool kGated>
__global__ void __maxnreg__((kRegisters<T, kExchange>))
    forward_kernel(const __grid_constant__ Shape shape, const __grid_constant__ Inputs<T, In> inputs,
                   const __grid_constant__ GlobalSums<T> global, In* __restrict__ y) {
  extern __shared__ __align__(16) char memory[];
  const SharedMemory<T> shared{memory, shape.warps, shape.chunks};
  using P = Place<T, kSegment<T, kExchange>>;
  const P place(shape);
  if (!takes_frame(shape, place, inputs)) {
    exact_forward<T, kExchange, P>(memory, shape, inputs, global, y);
  } else if constexpr (sizeof(T) == 4) {
    framed_forward<kExchange, kGated>(shape, place, shared, inputs, global, y);
  }
}

/// The sums of each chunk, for Exchange::global.
template <typename T, typename In>
__global__ void __maxnreg__((kRegisters<T, Exchange::global>))
    totals_kernel(const __grid_constant__ Shape shape, const __grid_constant__ Inputs<T, In> inputs,
                  const __grid_constant__ GlobalSums<T> totals) {
  extern __shared__ __align__(16) char memory[];
  const SharedMemory<T> shared{memory, shape.warps, shape.chunks};
  using P = Place<T, kSegment<T, Exchange::global>>;
  const P place(shape);
  if (!takes_frame(shape, place, inputs)) {
    exact_totals<T, P>(memory, shape, inputs, totals);
  } else if constexpr (sizeof(T) == 4) {
    framed_totals(shape, place, shared, inputs, totals);
  }
}

/// Replaces the sums of every chunk by those of all chunks left of it (direction 0) or right of it (direction 1).
template <typename T>
__global__ void __launch_bounds__(128) scan_chunks_kernel(Shape shape, const T* __restrict__ w_ptr, Sums<T>* sums) {
  const int64_t columns = shape.batch * shape.channels;
  const int64_t index = static_cast<int64_t>(blockIdx.x) * 128 + threadIdx.x;
  if (index >= 2 * columns) return;
  const bool from_right = index >= columns;
  const int64_t column = from_right ? index - columns : index;
  const int64_t channel = column % shape.channels;
  const T w = w_ptr[channel];
  const T tokens = static_cast<T>(shape.warps * kSegment<T, Exchange::global>);
  Sums<T>* first =
      sums + ((from_right ? shape.batch : 0) + column / shape.channels) * shape.chunks * shape.channels + channel;
  Sums<T> carry;
  clear<ScalarMath<T>>(carry);
  for (int step = 0; step < shape.chunks; ++step) {
    Sums<T>* place = first + (from_right ? shape.chunks - 1 - step : step) * shape.channels;
    const Sums<T> own = *place;
    *place = carry;
    join<ScalarMath<T>>(carry, w, tokens, own);
  }
}

/// All gradients; with kTotalsOnly, the sums of gradient terms of each chunk, for Exchange::global.
template <typename T, typename In, Exchange kExchange, bool kGated, bool kTotalsOnly>
__global__ void __maxnreg__((kRegisters<T, kExchange>))
    backward_kernel(const __grid_constant__ Shape shape, const __grid_constant__ Inputs<T, In> inputs,
                    const __grid_constant__ GlobalSums<T> global, const __grid_constant__ GlobalSums<T> gradient_global,
                    const __grid_constant__ GradientPointers<T, In> gradients) {
  extern __shared__ __align__(16) char memory[];
  const SharedMemory<T> shared{memory, shape.warps, shape.chunks};
  using P = Place<T, kSegment<T, kExchange>>;
  const P place(shape);
  if (!takes_frame(shape, place, inputs)) {
    exact_backward<T, kExchange, kTotalsOnly, P>(memory, shape, inputs, global, gradient_global, gradients);
  } else if constexpr (sizeof(T) == 4) {
    framed_backward<kExchange, kGated, kTotalsOnly>(shape, place, shared, inputs, global, gradient_global, gradients);
  }
}

}  // namespace vrwkv::ops::cuda
