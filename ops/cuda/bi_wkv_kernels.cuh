#pragma once

// The kernels of Bi-WKV. Each block takes the framed arithmetic if all its channels allow it, else the exact one; all
// blocks of a sequence and channel group decide alike.

#include "ops/cuda/bi_wkv_exact.cuh"
#include "ops/cuda/bi_wkv_framed_backward.cuh"
#include "ops/cuda/bi_wkv_pairs.cuh"
#include "ops/cuda/bi_wkv_pairs_backward.cuh"
#include "ops/cuda/dependent_launch.cuh"

namespace vrwkv::ops::cuda {

// Parameters are __grid_constant__ so that exact functions can take their address without a copy in every thread.

/// Registers of a thread: of blocks of 10 warps, three fit a multiprocessor, or two where more has to be kept, since
/// shared memory leaves the first cache no room for what is spilled.
template <typename T, Exchange kExchange>
constexpr int kForwardRegisters = sizeof(T) != 4                   ? 128
                                  : kExchange == Exchange::running ? 96
                                                                   : 64;
template <typename T, bool kTotalsOnly>
constexpr int kBackwardRegisters = sizeof(T) != 4 ? 128
                                   : kTotalsOnly  ? 64
                                                  : 128;

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

/// y, or sigmoid(r) y with a gate; and what comes in to each chunk of several, for the backward pass, unless `kept` is
/// null.
template <typename T, typename In, Exchange kExchange, bool kGated>
__global__ void __maxnreg__((kForwardRegisters<T, kExchange>))
    forward_kernel(const __grid_constant__ Shape shape, const __grid_constant__ Inputs<T, In> inputs,
                   const __grid_constant__ GlobalSums<T> global, const __grid_constant__ ChunkSums<T> kept,
                   In* __restrict__ y) {
  extern __shared__ __align__(16) char memory[];
  start_in_turn();
  const SharedMemory<T> shared{memory, shape.warps};
  using P = PlaceOf<T, kExchange, Pass::forward>;
  if constexpr (kExchange == Exchange::running) ClearedArrivals(shape, global).wait();
  for_each_item<P, kExchange>(shape, [&](unsigned item, const P& place) {
    if constexpr (sizeof(T) == 4) {
      if (framed_forward<kExchange, kGated>(shape, place, shared, inputs, global, kept, y)) return;
    }
    exact_forward<T, kExchange, P>(memory, shape, item, inputs, global, kept, y);
  });
}

/// What a block of pairs works on: the grid has whole sequences, so it is the same chunk of one after the other.
template <int kTokens>
struct PairItems {
  unsigned chunks, pairs, sequences, chunk;
  unsigned first, at_once;  ///< The first of its sequences, and how many the grid works on at a time.

  __device__ __forceinline__ explicit PairItems(const Shape& shape)
      : chunks(static_cast<unsigned>(shape.chunks)),
        pairs(static_cast<unsigned>(shape.pair_groups())),
        sequences(static_cast<unsigned>(shape.pair_sequences())),
        chunk(blockIdx.x % chunks),
        first(blockIdx.x / chunks),
        at_once(gridDim.x / chunks) {}

  __device__ __forceinline__ PairPlace<kTokens> place(const Shape& shape, unsigned sequence) const {
    return {shape, chunk, sequence / pairs, sequence % pairs};
  }

  /// work(item) for the item of each of the pair's channel groups, as kernels of single channels number them.
  template <typename Work>
  __device__ __forceinline__ void for_single_channels(const Shape& shape, const PairPlace<kTokens>& place,
                                                      const Work& work) const {
    const auto groups = static_cast<unsigned>(shape.groups), group = static_cast<unsigned>(place.sequence);
    for (unsigned i = 0; i < 2 && (i == 0 || (group + i) % groups != 0); ++i) {
      __syncthreads();
      work((group + i) * chunks + chunk);
    }
  }
};

/// The same over sequences of several chunks that meet while it runs, 64 channels a block: four blocks fit a
/// multiprocessor.
template <typename T, typename In, bool kGated>
__global__ void __maxnreg__(128)
    pair_kernel(const __grid_constant__ Shape shape, const __grid_constant__ Inputs<T, In> inputs,
                const __grid_constant__ GlobalSums<T> global, const __grid_constant__ ChunkSums<T> kept,
                In* __restrict__ y) {
  extern __shared__ __align__(16) char memory[];
  start_in_turn();
  using P = PlaceOf<T, Exchange::running, Pass::forward>;
  using Block = PairBlock<kGated, P::kTokens, In>;
  const PairItems<P::kTokens> items(shape);
  ClearedArrivals cleared(shape, global);
  wait_cycles(static_cast<int64_t>(items.first) * shape.sequence_cycles);
  for (unsigned sequence = items.first; sequence < items.sequences; sequence += items.at_once) {
    const auto place = items.place(shape, sequence);
    Block::start(shape, place, memory, inputs);
    if (sequence == items.first) cleared.wait();
    Block block(shape, place, memory, inputs);
    if (block.takes_frames()) {
      block.run(global, kept, y);
    } else {
      finish_loads();
      items.for_single_channels(shape, place, [&](unsigned item) {
        exact_forward<T, Exchange::running, P>(memory, shape, item, inputs, global, kept, y);
      });
    }
    __syncthreads();  // Shared memory is read.
  }
}

/// The sums of each chunk, for Exchange::former.
template <typename T, typename In>
__global__ void __maxnreg__((kForwardRegisters<T, Exchange::former>))
    totals_kernel(const __grid_constant__ Shape shape, const __grid_constant__ Inputs<T, In> inputs,
                  const __grid_constant__ GlobalSums<T> totals) {
  extern __shared__ __align__(16) char memory[];
  start_in_turn();
  const SharedMemory<T> shared{memory, shape.warps};
  using P = PlaceOf<T, Exchange::former, Pass::forward>;
  for_each_item<P, Exchange::former>(shape, [&](unsigned item, const P& place) {
    if constexpr (sizeof(T) == 4) {
      if (framed_totals(shape, place, shared, inputs, totals)) return;
    }
    exact_totals<T, P>(memory, shape, item, inputs, totals);
  });
}

/// All gradients; with kTotalsOnly, the sums of gradient terms of each chunk, for Exchange::former.
template <typename T, typename In, Exchange kExchange, bool kGated, bool kTotalsOnly>
__global__ void __maxnreg__((kBackwardRegisters<T, kTotalsOnly>))
    backward_kernel(const __grid_constant__ Shape shape, const __grid_constant__ Inputs<T, In> inputs,
                    const __grid_constant__ ChunkSums<T> kept, const __grid_constant__ GlobalSums<T> global,
                    const __grid_constant__ GradientPointers<T, In> gradients) {
  extern __shared__ __align__(16) char memory[];
  start_in_turn();
  const SharedMemory<T> shared{memory, shape.warps};
  using P = PlaceOf<T, kExchange, Pass::backward>;
  if constexpr (kExchange == Exchange::running) ClearedArrivals(shape, global).wait();
  for_each_item<P, kExchange>(shape, [&](unsigned item, const P& place) {
    if constexpr (sizeof(T) == 4) {
      if (framed_backward<kExchange, kGated, kTotalsOnly>(shape, place, shared, inputs, kept, global, gradients)) {
        return;
      }
    }
    exact_backward<T, kExchange, kTotalsOnly, P>(memory, shape, item, inputs, kept, global, gradients);
  });
}

/// The same over sequences of several chunks that meet while it runs, 64 channels a block: two blocks fit a
/// multiprocessor.
template <typename T, typename In, bool kGated>
__global__ void __maxnreg__(128)
    pair_backward_kernel(const __grid_constant__ Shape shape, const __grid_constant__ Inputs<T, In> inputs,
                         const __grid_constant__ ChunkSums<T> kept, const __grid_constant__ GlobalSums<T> global,
                         const __grid_constant__ GradientPointers<T, In> gradients) {
  extern __shared__ __align__(16) char memory[];
  start_in_turn();
  using P = PlaceOf<T, Exchange::running, Pass::backward>;
  using Block = PairGradients<kGated, P::kTokens, In>;
  const PairItems<P::kTokens> items(shape);
  ClearedArrivals cleared(shape, global);
  wait_cycles(static_cast<int64_t>(items.first) * shape.sequence_cycles);
  auto place = items.place(shape, items.first);
  bool started = false;
  PairEntry entry(shape, place, inputs, kept);
#pragma unroll 1
  for (unsigned sequence = items.first; sequence < items.sequences; sequence += items.at_once) {
    if (!started) Block::start(shape, place, memory, inputs);
    if (sequence == items.first) cleared.wait();
    finish_loads();
    const bool continues = sequence + items.at_once < items.sequences;
    const auto next = items.place(shape, continues ? sequence + items.at_once : sequence);
    Block block(shape, place, memory, inputs, entry, gradients);
    started = continues && block.takes_frames();
    if (block.takes_frames()) {
      block.run(global, continues, next);
      entry = PairEntry(shape, next, inputs, kept);
      block.write_parts();
    } else {
      items.for_single_channels(shape, place, [&](unsigned item) {
        exact_backward<T, Exchange::running, false, P>(memory, shape, item, inputs, kept, global, gradients);
      });
      __syncthreads();  // Shared memory is read.
      entry = PairEntry(shape, next, inputs, kept);
    }
    place = next;
  }
}

}  // namespace vrwkv::ops::cuda
