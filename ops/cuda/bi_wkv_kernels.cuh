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

/// What a block works on: with Exchange::running, the same chunk of several sequences, one after the other; the grid is
/// [sequences at a time, chunks].
template <typename P, Exchange kExchange, typename Work>
__device__ __forceinline__ void for_each_item(const Shape& shape, const Work& work) {
  if constexpr (kExchange == Exchange::running) {
    const auto sequences = static_cast<unsigned>(shape.sequences());
    for (unsigned sequence = blockIdx.y; sequence < sequences; sequence += gridDim.y) {
      work(sequence * gridDim.x + blockIdx.x, P(shape, blockIdx.x, sequence));
      __syncthreads();  // Shared memory is read.
    }
  } else {
    work(blockIdx.x, P(shape, blockIdx.x));
  }
}

/// work(item) for the item of each of the pair's channel groups, as kernels of single channels number them.
template <typename P, typename Work>
__device__ __forceinline__ void for_single_channels(const Shape& shape, const P& place, const Work& work) {
  const auto groups = static_cast<unsigned>(shape.groups), group = place.sequence;
  for (unsigned i = 0; i < 2 && (i == 0 || (group + i) % groups != 0); ++i) {
    __syncthreads();
    work((group + i) * gridDim.x + blockIdx.x);
  }
}

/// y, or sigmoid(r) y with a gate; and what comes in to each chunk of several, for the backward pass, unless `kept` is
/// null; with kKeeps also all else that KeptSums has.
template <typename T, typename In, Exchange kExchange, bool kGated, bool kKeeps>
__global__ void __maxnreg__((kForwardRegisters<T, kExchange>))
    forward_kernel(const __grid_constant__ Shape shape, const __grid_constant__ Inputs<T, In> inputs,
                   const __grid_constant__ GlobalSums<T> global, const __grid_constant__ KeptSums<T> kept,
                   In* __restrict__ y) {
  extern __shared__ __align__(16) char memory[];
  start_in_turn();
  const SharedMemory<T> shared{memory, shape.warps};
  using P = PlaceOf<T, kExchange, Pass::forward>;
  if constexpr (kExchange == Exchange::running) ClearedArrivals(shape, global).wait();
  for_each_item<P, kExchange>(shape, [&](unsigned item, const P& place) {
    if constexpr (sizeof(T) == 4) {
      if (framed_forward<kExchange, kGated, kKeeps>(shape, place, shared, inputs, global, kept, y)) return;
    }
    exact_forward<T, kExchange, P>(memory, shape, item, inputs, global, kept, y);
  });
}

/// The same over sequences of several chunks that meet while it runs, 64 channels a block of kWarps warps: four blocks
/// fit a multiprocessor, or two of twice as many. The grid is [sequences at a time, chunks].
template <typename T, typename In, bool kGated, int kWarps>
__global__ void __maxnreg__(128)
    pair_kernel(const __grid_constant__ Shape shape, const __grid_constant__ Inputs<T, In> inputs,
                const __grid_constant__ GlobalSums<T> global, const __grid_constant__ KeptSums<T> kept,
                In* __restrict__ y) {
  extern __shared__ __align__(16) char memory[];
  start_in_turn();
  using Single = PlaceOf<T, Exchange::running, Pass::forward>;
  using P = PairPlace<Single::kTokens, kWarps>;
  using Block = PairBlock<kGated, P, In>;
  const auto sequences = static_cast<unsigned>(shape.pair_sequences());
  ClearedArrivals cleared(shape, global);
  wait_cycles(static_cast<int64_t>(blockIdx.y) * shape.sequence_cycles);
  for (unsigned sequence = blockIdx.y; sequence < sequences; sequence += gridDim.y) {
    const P place(shape, blockIdx.x, sequence);  // Not kept from sequence to sequence: it would take registers.
    const auto meet = [&] {
      if (sequence == blockIdx.y) cleared.wait();
    };
    const PairParameters parameters(shape, place, inputs);
    Block::start(shape, place, memory, inputs);
    Block block(shape, place, memory, inputs, parameters);
    if (block.takes_frames()) {
      block.run(global, meet, kept, y);
    } else {
      meet();
      finish_loads();
      for_single_channels(shape, place, [&](unsigned item) {
        exact_forward<T, Exchange::running, Single>(memory, shape, item, inputs, global, kept, y);
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

/// The same, 64 channels a block: two blocks fit a multiprocessor. Over sequences of several chunks, which meet while
/// it runs, or with kAlone of one chunk. The grid is [sequences at a time, chunks].
template <typename T, typename In, bool kGated, bool kAlone>
__global__ void __maxnreg__(128)
    pair_backward_kernel(const __grid_constant__ Shape shape, const __grid_constant__ Inputs<T, In> inputs,
                         const __grid_constant__ KeptSums<T> kept, const __grid_constant__ GlobalSums<T> global,
                         const __grid_constant__ GradientPointers<T, In> gradients) {
  extern __shared__ __align__(16) char memory[];
  start_in_turn();
  constexpr Exchange kExchange = kAlone ? Exchange::none : Exchange::running;
  using Single = PlaceOf<T, kExchange, Pass::backward>;
  using P = BackwardPairs<T>;
  using Block = PairGradients<kGated, kAlone, P, In>;
  const auto sequences = static_cast<unsigned>(shape.pair_sequences());
  const auto place_of = [&](unsigned sequence) { return P(shape, blockIdx.x, sequence); };
  std::conditional_t<kAlone, NoArrivals, ClearedArrivals> cleared(shape, global);
  wait_cycles(static_cast<int64_t>(blockIdx.y) * shape.sequence_cycles);
  // The former item's parts of the gradients of w and u are in shared memory, and the tokens of this one come in.
  bool follows = false;
  float2 frames;
  const auto write_parts = [&](unsigned sequence) {
    if (follows) Block::write_parts(shape, place_of(sequence), memory, gradients);
  };
  unsigned sequence = blockIdx.y;
#pragma unroll 1
  for (; sequence < sequences; sequence += gridDim.y) {
    const auto place = place_of(sequence);
    if (!follows) {
      Block::start(shape, place, memory, inputs, kept);
      frames = Block::frames(shape, place, kept);
    }
    finish_loads();
    const auto meet = [&] {
      if (sequence == blockIdx.y) cleared.wait();
    };
    const bool continues = sequence + gridDim.y < sequences;
    Block block(shape, place, memory, inputs, kept, gradients, frames);
    if (block.takes_frames()) {
      frames = block.run(
          global, meet, continues, [&] { return place_of(sequence + gridDim.y); },
          [&] { write_parts(sequence - gridDim.y); });
      follows = true;
    } else {
      meet();
      __syncthreads();
      write_parts(sequence - gridDim.y);
      for_single_channels(shape, place, [&](unsigned item) {
        exact_backward<T, kExchange, false, Single>(memory, shape, item, inputs, kept, global, gradients);
      });
      __syncthreads();  // Shared memory is read.
      follows = false;
    }
  }
  __syncthreads();
  write_parts(sequence - gridDim.y);
}

}  // namespace vrwkv::ops::cuda
