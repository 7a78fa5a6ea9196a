#pragma once

// The kernels of Bi-WKV. Each block takes the framed arithmetic if all its channels allow it, else the exact one; all
// blocks of a sequence and channel group decide alike.

#include "ops/cuda/bi_wkv_exact.cuh"
#include "ops/cuda/bi_wkv_framed_backward.cuh"
#include "ops/cuda/bi_wkv_pairs.cuh"
#include "ops/cuda/bi_wkv_two_passes.cuh"

namespace vrwkv::ops::cuda {

// Parameters are __grid_constant__ so that exact functions can take their address without a copy in every thread.

#ifndef WKV_BREGS
#define WKV_BREGS 128
#endif
#ifndef WKV_REGS
#define WKV_REGS 96
#endif
/// Registers of a thread: of blocks of 10 warps, three fit a multiprocessor, or two where more has to be kept, since
/// shared memory leaves the first cache no room for what is spilled.
template <typename T, bool kAlone>
constexpr int kForwardRegisters = sizeof(T) != 4 ? 128
                                  : kAlone       ? 64
                                                 : WKV_REGS;
template <typename T, bool kTotalsOnly>
constexpr int kBackwardRegisters = sizeof(T) != 4 ? 128
                                   : kTotalsOnly  ? 64
                                                  : WKV_BREGS;

/// What a block works on: with Exchange::running several items, one after the other. All sequences that the grid works
/// on at a time are whole.
template <typename P, Exchange kExchange, typename Work>
__device__ __forceinline__ void for_each_item(const Shape& shape, const Work& work) {
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

/// y, or sigmoid(r) y with a gate, of sequences of one chunk.
template <typename T, typename In, bool kGated>
__global__ void __maxnreg__((kForwardRegisters<T, true>))
    forward_kernel(const __grid_constant__ Shape shape, const __grid_constant__ Inputs<T, In> inputs,
                   In* __restrict__ y) {
  extern __shared__ __align__(16) char memory[];
  const SharedMemory<T> shared{memory, shape.warps};
  using P = PlaceOf<T, Exchange::none, Pass::forward>;
  if constexpr (sizeof(T) == 4) {
    if (framed_forward<kGated>(shape, P(shape, blockIdx.x), shared, inputs, y)) return;
  }
  exact_forward<T, true, P>(memory, shape, blockIdx.x, inputs, ChunkSums<T>{}, y);
}

/// The same of sequences of several chunks, and what comes in to each, for the backward pass.
template <typename T, typename In, bool kGated>
__global__ void __maxnreg__((kForwardRegisters<T, false>))
    two_pass_kernel(const __grid_constant__ Shape shape, const __grid_constant__ TwoPasses<T> passes,
                    const __grid_constant__ Inputs<T, In> inputs, const __grid_constant__ ChunkSums<T> incoming,
                    In* __restrict__ y) {
  extern __shared__ __align__(16) char memory[];
  using P = PlaceOf<T, Exchange::running, Pass::forward>;
  const auto work = [&](const auto& item, const auto& wait) {
    if constexpr (sizeof(T) == 4) {
      const PairPlace<P::kTokens> place(shape, item.chunk, item.b, item.group);
      PairBlock<kGated, P::kTokens, In> block(shape, place, memory, inputs);
      block.start(item.second());
      if (block.takes_frames()) {
        if (item.second()) {
          block.write_outputs(passes.segments, incoming, wait, y);
        } else {
          block.leave_sums(passes.segments, incoming);
        }
        return;
      }
      finish_loads();
    }
    if (item.second()) wait();
    const auto groups = static_cast<unsigned>(shape.groups);
    for (unsigned group = 2 * item.group; group < groups && group < 2 * item.group + 2; ++group) {
      __syncthreads();
      const unsigned index = (item.b * groups + group) * static_cast<unsigned>(shape.chunks) + item.chunk;
      if (item.second()) {
        exact_forward<T, false, P>(memory, shape, index, inputs, incoming, y);
      } else {
        exact_totals<T, P>(memory, shape, index, inputs, incoming);
      }
    }
  };
  passes.run(shape, memory, work, incoming, inputs.w);
}

/// All gradients; with kTotalsOnly, the sums of gradient terms of each chunk, for Exchange::former.
template <typename T, typename In, Exchange kExchange, bool kGated, bool kTotalsOnly>
__global__ void __maxnreg__((kBackwardRegisters<T, kTotalsOnly>))
    backward_kernel(const __grid_constant__ Shape shape, const __grid_constant__ Inputs<T, In> inputs,
                    const __grid_constant__ ChunkSums<T> kept, const __grid_constant__ GlobalSums<T> global,
                    const __grid_constant__ GradientPointers<T, In> gradients) {
  extern __shared__ __align__(16) char memory[];
  const SharedMemory<T> shared{memory, shape.warps};
  using P = PlaceOf<T, kExchange, Pass::backward>;
  for_each_item<P, kExchange>(shape, [&](unsigned item, const P& place) {
    if constexpr (sizeof(T) == 4) {
      if (framed_backward<kExchange, kGated, kTotalsOnly>(shape, place, shared, inputs, kept, global, gradients)) {
        return;
      }
    }
    exact_backward<T, kExchange, kTotalsOnly, P>(memory, shape, item, inputs, kept, global, gradients);
  });
}

}  // namespace vrwkv::ops::cuda
