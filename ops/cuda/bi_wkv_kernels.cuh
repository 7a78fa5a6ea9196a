#pragma once

// The kernels of Bi-WKV. Each block takes the framed arithmetic if all its channels allow it, else the exact one; all
// blocks of a sequence and channel group decide alike.

#include "ops/cuda/bi_wkv_exact.cuh"
#include "ops/cuda/bi_wkv_framed_backward.cuh"

namespace vrwkv::ops::cuda {

// Parameters are __grid_constant__ so that exact functions can take their address without a copy in every thread.

/// Registers of a thread: two blocks of 10 warps fit a multiprocessor.
template <typename T>
constexpr int kRegisters = sizeof(T) == 4 ? 96 : 128;

template <typename T, Exchange kExchange>
using PlaceOf = Place<T, kSegment<T>, kExchange == Exchange::none>;

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

/// What a block works on: with Exchange::running several items, one after the other. All sequences that the grid works
/// on at a time are whole.
template <Exchange kExchange, typename T, typename Work>
__device__ __forceinline__ void for_each_item(const Shape& shape, const Work& work) {
  using P = PlaceOf<T, kExchange>;
  if constexpr (kExchange == Exchange::running) {
    const auto items = static_cast<unsigned>(shape.items());
    for (unsigned item = blockIdx.x; item < items; item += gridDim.x) {
      work(item, P(shape, item));
      __syncthreads();  // Shared memory is read.
    }
  } else {
    work(blockIdx.x, P(shape, blockIdx.x));
  }
}

/// y, or sigmoid(r) y with a gate.
template <typename T, typename In, Exchange kExchange, bool kGated>
__global__ void __maxnreg__(kRegisters<T>)
    forward_kernel(const __grid_constant__ Shape shape, const __grid_constant__ Inputs<T, In> inputs,
                   const __grid_constant__ GlobalSums<T> global, In* __restrict__ y) {
  extern __shared__ __align__(16) char memory[];
  const SharedMemory<T> shared{memory, shape.warps};
  for_each_item<kExchange, T>(shape, [&](unsigned item, const auto& place) {
    if (!takes_frame(shape, place, inputs)) {
      exact_forward<T, kExchange, PlaceOf<T, kExchange>>(memory, shape, item, inputs, global, y);
    } else if constexpr (sizeof(T) == 4) {
      framed_forward<kExchange, kGated>(shape, place, shared, inputs, global, y);
    }
  });
}

/// The sums of each chunk, for Exchange::former.
template <typename T, typename In>
__global__ void __maxnreg__(kRegisters<T>)
    totals_kernel(const __grid_constant__ Shape shape, const __grid_constant__ Inputs<T, In> inputs,
                  const __grid_constant__ GlobalSums<T> totals) {
  extern __shared__ __align__(16) char memory[];
  const SharedMemory<T> shared{memory, shape.warps};
  for_each_item<Exchange::former, T>(shape, [&](unsigned item, const auto& place) {
    if (!takes_frame(shape, place, inputs)) {
      exact_totals<T, PlaceOf<T, Exchange::former>>(memory, shape, item, inputs, totals);
    } else if constexpr (sizeof(T) == 4) {
      framed_totals(shape, place, shared, inputs, totals);
    }
  });
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
  const T tokens = static_cast<T>(shape.warps * kSegment<T>);
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

/// All gradients; with kTotalsOnly, the sums of gradient terms of each chunk, for Exchange::former.
template <typename T, typename In, Exchange kExchange, bool kGated, bool kTotalsOnly>
__global__ void __maxnreg__(kRegisters<T>)
    backward_kernel(const __grid_constant__ Shape shape, const __grid_constant__ Inputs<T, In> inputs,
                    const __grid_constant__ GlobalSums<T> global, const __grid_constant__ GlobalSums<T> gradient_global,
                    const __grid_constant__ GradientPointers<T, In> gradients) {
  extern __shared__ __align__(16) char memory[];
  const SharedMemory<T> shared{memory, shape.warps};
  for_each_item<kExchange, T>(shape, [&](unsigned item, const auto& place) {
    if (!takes_frame(shape, place, inputs)) {
      exact_backward<T, kExchange, kTotalsOnly, PlaceOf<T, kExchange>>(memory, shape, item, inputs, global,
                                                                       gradient_global, gradients);
    } else if constexpr (sizeof(T) == 4) {
      framed_backward<kExchange, kGated, kTotalsOnly>(shape, place, shared, inputs, global, gradient_global, gradients);
    }
  });
}

}  // namespace vrwkv::ops::cuda
