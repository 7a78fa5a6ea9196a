#pragma once

#include "ops/cuda/hopper/shifted_rows.cuh"

namespace vrwkv::ops::cuda::hopper {

constexpr int kGroupRowsBytes = (kRows + 2) * kRowBytes;

/// The warpgroups of a block have barriers of their own; all warps of one call this.
__device__ __forceinline__ void sync_group(int group) {
  asm volatile("bar.sync %0, %1;" ::"r"(1 + group), "n"(kWarpgroup) : "memory");
}

/// Of a thread's tokens what is above and below, for the second half of the spans, which come from there.
struct VerticalNeighbours {
  static constexpr int kBegin = kSpans / 2;
  Bits values[kSpans - kBegin][2];

  /// The loads are under way when this returns.
  __device__ __forceinline__ void load(const ShiftedPlaces& places, const ShiftedTokens& from) {
#pragma unroll
    for (int span = kBegin; span < kSpans; ++span) {
#pragma unroll
      for (int i = 0; i < 2; ++i) values[span - kBegin][i] = places.other(from, span, i);
    }
  }
};

/// A warpgroup's 64 tokens in shared memory with the ones before and behind, which one copy brings; when they are
/// mixed, in their place a left factor that waits for its products.
struct GroupRows {
  unsigned char* rows;
  Barrier& there;

  /// Starts to fetch the tokens from `first` on. By one thread.
  __device__ __forceinline__ void fetch(const ShiftedTokens& from, int64_t first) const {
    const int64_t begin = first > 0 ? first - 1 : 0,
                  end = first + kRows + 1 < from.count ? first + kRows + 1 : from.count;
    const int bytes = begin < end ? static_cast<int>(end - begin) * kRowBytes : 0;
    there.expect(bytes);
    if (bytes > 0) copy_bulk(place(static_cast<int>(begin - first), 0), from.tokens + begin * kChannels, bytes, there);
  }

  /// Starts to fetch `from` [count, C], rows alone, when all threads of the group have read the tokens. By one thread.
  __device__ __forceinline__ void fetch_rows(const __nv_bfloat16* from, int64_t first, int64_t count) const {
    const int64_t left = count - first;
    const int bytes = left < 0 ? 0 : static_cast<int>(left < kRows ? left : kRows) * kRowBytes;
    there.expect(bytes);
    if (bytes > 0) copy_bulk(place(0, 0), from + first * kChannels, bytes, there);
  }

  /// Mixes 0 and 1 of the tokens; the second one is put aside.
  __device__ __forceinline__ void mix(LeftFactor& mixed, const ShiftedPlaces& places,
                                      const VerticalNeighbours& vertical, const MixFactors& factors, int group) const {
    constexpr int kHalf = VerticalNeighbours::kBegin;
    uint32_t steps[2][2][4];
    // Nobody else reads what these are made of.
#pragma unroll
    for (int span = kHalf; span < kSpans; ++span) {
      const Bits(&beside)[2] = vertical.values[span - kHalf];
      mix_span(steps, places, beside[0], beside[1], factors, span);
      mixed.set(span, steps[0]);
      keep(places, span, steps[1]);
    }
    uint32_t aside[kHalf][2][4];
#pragma unroll
    for (int span = 0; span < kHalf; ++span) {
      const int channel = places.channel(span), left = places.row + places.sign(span);
      mix_span(steps, places, vector(left, channel), vector(left + 8, channel), factors, span);
      mixed.set(span, steps[0]);
#pragma unroll
      for (int i = 0; i < 8; ++i) aside[span][i / 4][i % 4] = steps[1][i / 4][i % 4];
    }
    sync_group(group);
#pragma unroll
    for (int span = 0; span < kHalf; ++span) keep(places, span, aside[span]);
    hold(mixed.values);
  }

  /// The left factor that was put aside.
  __device__ __forceinline__ void kept(LeftFactor& left, const ShiftedPlaces& places) const {
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      const Bits values = vector(places.row + step % 2 * 8, places.channel(step / 2));
#pragma unroll
      for (int i = 0; i < 4; ++i) left.values[step][i] = values.values[i];
    }
    hold(left.values);
  }

  /// The rows that were fetched, as a left factor.
  __device__ __forceinline__ void fetched(LeftFactor& left, const ShiftedPlaces& places) const {
#pragma unroll
    for (int span = 0; span < kSpans; ++span) {
      const Bits rows_of_span[]{vector(places.row, places.channel(span)), vector(places.row + 8, places.channel(span))};
      uint32_t steps[2][4];
#pragma unroll
      for (int i = 0; i < 8; ++i) steps[i / 4][i % 4] = rows_of_span[i % 2].values[i / 4 * 2 + i % 4 / 2];
      left.set(span, steps);
    }
    hold(left.values);
  }

 private:
  /// Of token `number` of the 64, or -1 or 64, the channels from `channel` on.
  __device__ __forceinline__ unsigned char* place(int number, int channel) const {
    return rows + (number + 1) * kRowBytes + channel * 2;
  }
  __device__ __forceinline__ Bits vector(int number, int channel) const {
    return load_vector<kVector / 2>(reinterpret_cast<const uint32_t*>(place(number, channel)));
  }

  /// Every thread puts its own part where its own tokens were.
  __device__ __forceinline__ void keep(const ShiftedPlaces& places, int span, const uint32_t (&steps)[2][4]) const {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      store_vector(reinterpret_cast<uint32_t*>(place(places.row + 8 * i, places.channel(span))),
                   Bits{steps[i][0], steps[i][1], steps[i][2], steps[i][3]});
    }
  }

  __device__ __forceinline__ void mix_span(uint32_t (&steps)[2][2][4], const ShiftedPlaces& places, const Bits& beside,
                                           const Bits& beside_second, const MixFactors& factors, int span) const {
    const int channel = places.channel(span);
    const ShiftedSpan of{{vector(places.row, channel), vector(places.row + 8, channel)},
                         {beside, beside_second},
                         {places.shifts(span, 0), places.shifts(span, 1)},
                         channel};
    of.mix(steps, factors);
  }
};

}  // namespace vrwkv::ops::cuda::hopper
