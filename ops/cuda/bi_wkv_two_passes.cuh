#pragma once

// The forward pass over sequences of several chunks, in two passes of one launch. The first leaves the sums of each
// chunk; the block that is the last to do so for a sequence makes of them what comes in to each chunk; the second pass
// reads k and v again, out of the second cache, and writes y. Blocks take items in an order in which a sequence's second
// pass follows so many other items after its first that nobody waits, while k and v are still in the cache.

#include "ops/cuda/bi_wkv_exchange.cuh"

namespace vrwkv::ops::cuda {

/// What the first pass leaves for the second one besides the sums of chunks.
struct SegmentMemory {
  float4* beside;  ///< [items, warps, 64] sums a and b left, a and b right of a segment in its chunk.
  float* frames;   ///< [items, 64] the frames of these.
};

template <typename T>
struct TwoPasses {
  SegmentMemory segments;
  unsigned* counters;  ///< 0 at the start: tickets taken, then for each sequence chunks that are summed, and 1 when done.
  unsigned groups;     ///< Of 64 channels.
  unsigned sequences;  ///< batch * groups
  unsigned lag;        ///< Sequences that the second pass is behind the first.

  static constexpr unsigned kWidth = 2;

  __device__ unsigned* arrived(unsigned sequence) const { return counters + 1 + sequence; }
  __device__ unsigned* done(unsigned sequence) const { return counters + 1 + sequences + sequence; }

  /// A chunk in one of the passes, or nothing more to do.
  struct Item {
    unsigned pass, chunk, b, group;
    __device__ bool second() const { return pass == 1; }
  };

  /// Calls work(item, wait) for each item that the block takes; after wait() it may read what comes in to the chunk.
  template <typename Work>
  __device__ __forceinline__ void run(const Shape& shape, char* memory, const Work& work, const ChunkSums<T>& sums,
                                      const T* w) const {
    __shared__ Item shared_item;
    __shared__ bool last;
    const auto chunks = static_cast<unsigned>(shape.chunks);
    const bool leads = threadIdx.x == 0 && threadIdx.y == 0;
    unsigned ticket = leads ? atomicAdd(counters, 1U) : 0U;
    while (true) {
      if (leads) shared_item = item_of(ticket, chunks);
      __syncthreads();
      const Item item = shared_item;
      if (item.pass > 1) return;
      if (leads) ticket = atomicAdd(counters, 1U);
      const unsigned sequence = item.b * groups + item.group;
      const ::cuda::atomic_ref<unsigned, ::cuda::thread_scope_device> is_done(*done(sequence));
      work(item, [&] {
        if (leads) {
          while (is_done.load(::cuda::memory_order_acquire) == 0) __nanosleep(20);
        }
        __syncthreads();
      });
      __syncthreads();
      if (item.second()) continue;
      if (leads) {
        const ::cuda::atomic_ref<unsigned, ::cuda::thread_scope_device> count(*arrived(sequence));
        last = count.fetch_add(1, ::cuda::memory_order_acq_rel) + 1 == chunks;
      }
      __syncthreads();
      if (!last) continue;
      combine(shape, memory, sums, w, item.b, item.group);
      __syncthreads();
      if (leads) is_done.store(1, ::cuda::memory_order_release);
    }
  }

 private:
  /// First come the items of the first pass of `lag` sequences, then alternately one of the first and one of the second
  /// pass, then the rest of the second.
  __device__ Item item_of(unsigned ticket, unsigned chunks) const {
    const unsigned leading = lag * chunks, both = 2 * (sequences - lag) * chunks;
    unsigned pass = 0, index = ticket;  // Of the pass's items.
    if (ticket >= leading + both) {
      pass = ticket < 2 * sequences * chunks ? 1 : 2;
      index = ticket - sequences * chunks;
    } else if (ticket >= leading) {
      const unsigned step = ticket - leading;
      pass = step % 2;
      index = step / 2 + (pass == 0 ? leading : 0);
    }
    const unsigned sequence = index / chunks, b = sequence / groups;
    return {pass, index - sequence * chunks, b, sequence - b * groups};
  }

  /// Replaces the sums of all chunks of a sequence by what comes in to each. Each direction is divided among half of the
  /// warps.
  static __device__ __forceinline__ void combine(const Shape& shape, char* memory, const ChunkSums<T>& sums, const T* w,
                                                 unsigned b, unsigned group) {
    using M = ScalarMath<T>;
    constexpr int kAtOnce = 7;
    const int lane = static_cast<int>(threadIdx.x), warp = static_cast<int>(threadIdx.y);
    const int workers = shape.warps / 2, direction = warp < workers ? 0 : 1, worker = warp - direction * workers;
    const int each = (shape.chunks + workers - 1) / workers;
    const T tokens = static_cast<T>(kChunkTokens<T>);
    const int first = worker * each, count = min(each, shape.chunks - first);
    auto* shares = reinterpret_cast<Sums<T>*>(memory);  // [2][workers][64]
    Sums<T>* from[kWidth];
    T decay[kWidth];
    bool inside[kWidth];
#pragma unroll
    for (int c = 0; c < static_cast<int>(kWidth); ++c) {
      const int64_t own = (static_cast<int64_t>(group) * kLanes + lane) * kWidth + c;
      inside[c] = own < shape.channels;
      const int64_t channel = inside[c] ? own : shape.channels - 1;
      const int64_t row = (direction * shape.batch + b) * shape.chunks + (direction == 0 ? 0 : shape.chunks - 1);
      from[c] = sums.sums + row * shape.channels + channel;
      decay[c] = w[channel];
    }
    const int64_t step = direction == 0 ? shape.channels : -shape.channels;
    const auto scan = [&](Sums<T>(&states)[kWidth], auto write) {
#pragma unroll 1
      for (int i = 0; i < count; i += kAtOnce) {
#pragma unroll
        for (int c = 0; c < static_cast<int>(kWidth); ++c) {
          Sums<T> found[kAtOnce];
#pragma unroll
          for (int j = 0; j < kAtOnce; ++j) {
            if (i + j < count) found[j] = load_sums(from[c] + (first + i + j) * step);
          }
#pragma unroll
          for (int j = 0; j < kAtOnce; ++j) {
            if (i + j >= count) continue;
            if constexpr (decltype(write)::value) {
              Sums<T> out = states[c];
              out.key = exponent<M>(out, decay[c]);
              out.n = T(0);
              if (inside[c]) store_sums(from[c] + (first + i + j) * step, out);
            }
            join<M>(states[c], decay[c], tokens, found[j]);
          }
        }
      }
    };
    Sums<T> states[kWidth];
#pragma unroll
    for (auto& state : states) clear<M>(state);
    if (worker < workers) {
      scan(states, std::false_type{});
#pragma unroll
      for (int c = 0; c < static_cast<int>(kWidth); ++c) {
        store_sums(shares + ((direction * workers + worker) * kLanes + lane) * static_cast<int>(kWidth) + c, states[c]);
      }
    }
    __syncthreads();
    if (worker >= workers) return;
#pragma unroll
    for (int c = 0; c < static_cast<int>(kWidth); ++c) {
      clear<M>(states[c]);
      for (int before = 0; before < worker; ++before) {
        join<M>(states[c], decay[c], tokens * static_cast<T>(each),
                load_sums(shares + ((direction * workers + before) * kLanes + lane) * static_cast<int>(kWidth) + c));
      }
    }
    scan(states, std::true_type{});
  }
};

}  // namespace vrwkv::ops::cuda
