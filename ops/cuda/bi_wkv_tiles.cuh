#pragma once

// The tiles of tokens that the framed Bi-WKV keeps in shared memory.

#include <cuda_pipeline.h>

#include "ops/cuda/bi_wkv_block.cuh"

namespace vrwkv::ops::cuda {

/// How a warp takes the rows of its tile in pieces of 16 bytes.
template <typename P, typename In>
struct SegmentPieces {
  static constexpr int kPiece = 16 / static_cast<int>(sizeof(In));  ///< Values that one thread takes at a time.
  static constexpr int kPieces = kLanes * P::kWidth / kPiece;       ///< Of a row.
  static constexpr int kRows = kLanes / kPieces;                    ///< That the warp takes at a time.
  struct alignas(16) Piece {
    In values[kPiece];
  };
};

/// Copies of a segment's tokens to its warp's rows of a tile.
template <typename P, typename In>
class SegmentCopies : SegmentPieces<P, In> {
 public:
  __device__ __forceinline__ SegmentCopies(const P& place, const Shape& shape)
      : channels_(shape.channels),
        group_channel_(place.group_channel),
        first_(place.first(shape.channels)),
        lane_(place.lane),
        count_(place.count),
        wide_(shape.vectorized) {}

  /// Starts to copy; `tile` is at the thread's own columns, its rows are kRow values apart, those behind the
  /// sequence's end are filled with `missing`. Surplus columns of the last group repeat others. Complete after
  /// finish_loads().
  template <int kRow>
  __device__ __forceinline__ void start(In* tile, const In* tensor, In missing) const {
    if (!wide_) {
#pragma unroll
      for (int c = 0; c < kWidth; ++c) {
        const In* from = tensor + (first_ + group_channel_ + column(c));
#pragma unroll 4
        for (int i = 0; i < kTokens; ++i) tile[i * kRow + c] = i < count_ ? from[i * channels_] : missing;
      }
      return;
    }
    const int row = lane_ / kPieces, first = lane_ % kPieces * kPiece;
    const In* from =
        tensor + (first_ + group_channel_ + least(first, channels_ - group_channel_ - kPiece) + row * channels_);
    In* to = tile - lane_ * kWidth + row * kRow + first;
    if (count_ == kTokens) {  // The same in the whole warp; without it, every copy would be a branch.
#pragma unroll
      for (int round = 0; round < (kTokens + kRows - 1) / kRows; ++round, from += kRows * channels_) {
        if (kTokens % kRows == 0 || round * kRows + row < kTokens) {
          __pipeline_memcpy_async(to + round * kRows * kRow, from, sizeof(Piece));
        }
      }
      return;
    }
    Piece fill;
#pragma unroll
    for (int i = 0; i < kPiece; ++i) fill.values[i] = missing;
#pragma unroll 1
    for (int i = row; i < kTokens; i += kRows, to += kRows * kRow, from += kRows * channels_) {
      if (i < count_) {
        __pipeline_memcpy_async(to, from, sizeof(Piece));
      } else {
        *reinterpret_cast<Piece*>(to) = fill;
      }
    }
  }

 private:
  using Pieces = SegmentPieces<P, In>;
  using Pieces::kPiece, Pieces::kPieces, Pieces::kRows;
  using typename Pieces::Piece;
  static constexpr int kTokens = P::kTokens;
  static constexpr int kWidth = P::kWidth;
  static __device__ __forceinline__ int64_t least(int64_t x, int64_t y) { return x < y ? x : y; }
  /// Of the thread's channel `c` in its group, the last one for surplus channels.
  __device__ __forceinline__ int64_t column(int c) const {
    return least(lane_ * kWidth + c, channels_ - 1 - group_channel_);
  }

  int64_t channels_, group_channel_, first_;
  int lane_, count_;
  bool wide_;
};

/// Writes rows of a warp's tile, whose columns all lanes have written, to a segment's tokens in a tensor.
template <typename P, typename In>
class SegmentOutputs : SegmentPieces<P, In> {
 public:
  __device__ __forceinline__ SegmentOutputs(const P& place, const Shape& shape, In* tensor)
      : channels_(static_cast<unsigned>(shape.channels)), lane_(place.lane), wide_(shape.vectorized) {
    // Without pieces: the thread's own columns, of which each is looked at.
    const int row = wide_ ? lane_ / kPieces : 0, column = wide_ ? lane_ % kPieces * kPiece : lane_ * P::kWidth;
    left_ = static_cast<int>(channels_) - static_cast<int>(place.group_channel) - column;
    count_ = left_ > 0 ? place.count - row : 0;
    to_ = tensor + (place.first(shape.channels) + place.group_channel + column + row * shape.channels);
    from_ = row * kRow + (wide_ ? column - lane_ * P::kWidth : 0);
  }

  /// Writes kCount rows from `first` on. `tile` is at the thread's own columns. (What is read behind these rows is not
  /// written.)
  template <int kCount>
  __device__ __forceinline__ void write(const In* tile, int first) const {
    __syncwarp();
    const In* from = tile + (first * kRow + from_);
    In* to = to_ + static_cast<uint64_t>(static_cast<unsigned>(first)) * channels_;
    const int count = count_ - first;
    if (!wide_) {
#pragma unroll 1
      for (int i = 0; i < kCount && i < count; ++i, from += kRow, to += channels_) {
#pragma unroll
        for (int c = 0; c < P::kWidth; ++c) {
          if (c < left_) to[c] = from[c];
        }
      }
      return;
    }
#pragma unroll
    for (int i = 0; i < kCount; i += kRows, to += static_cast<uint64_t>(kRows) * channels_) {
      const Piece piece = *reinterpret_cast<const Piece*>(from + i * kRow);
      if (i < count && (i + kRows <= kCount || i + lane_ / kPieces < kCount)) *reinterpret_cast<Piece*>(to) = piece;
    }
  }

 private:
  using Pieces = SegmentPieces<P, In>;
  using Pieces::kPiece, Pieces::kPieces, Pieces::kRows;
  using typename Pieces::Piece;
  static constexpr int kRow = kLanes * P::kWidth;

  In* to_;
  unsigned channels_;
  int lane_, left_, count_, from_;
  bool wide_;
};

/// Waits for the copies of all lanes of the warp.
__device__ __forceinline__ void finish_loads() {
  __pipeline_commit();
  __pipeline_wait_prior(0);
  __syncwarp();
}

/// One thread's columns of the forward pass's tiles: a segment of tokens of one channel, value i at [i * kLanes].
template <typename In, int kTokens, int kWidth = 1>
struct ForwardTiles {
  static constexpr __host__ __device__ int bytes(int warps, bool gated) {
    return (gated ? 3 : 2) * size(warps) * static_cast<int>(sizeof(In));
  }
  static constexpr __host__ __device__ int size(int warps) { return warps * kTokens * kLanes * kWidth; }

  In *k, *v, *r;

  template <typename P>
  __device__ ForwardTiles(char* base, const P& place, int warps)
      : k(reinterpret_cast<In*>(base) + (place.warp * kTokens * kLanes + place.lane) * kWidth),
        v(k + size(warps)),
        r(v + size(warps)) {}
};

/// The same for the backward pass. q and h are what is computed of r and gy, and take their places, unless kReadOnly: a
/// row of gy lies at the start of the row of q, so value i of gy and r is at [i * kRow].
template <typename In, int kTokens, bool kReadOnly>
struct BackwardTiles {
  static constexpr int kWide = static_cast<int>(kReadOnly ? sizeof(In) : sizeof(float));
  static constexpr int kRow = kLanes * kWide / static_cast<int>(sizeof(In));
  static __host__ __device__ int bytes(int warps) {
    return 2 * ForwardTiles<In, kTokens>::size(warps) * (static_cast<int>(sizeof(In)) + kWide);
  }

  In *gy, *r, *k, *v;
  int lane;

  template <typename P>
  __device__ BackwardTiles(char* base, const P& place, int warps) : lane(place.lane) {
    const int size = ForwardTiles<In, kTokens>::size(warps), first = place.warp * kTokens;
    gy = reinterpret_cast<In*>(base) + first * kRow + lane;
    r = reinterpret_cast<In*>(base + size * kWide) + first * kRow + lane;
    k = reinterpret_cast<In*>(base + 2 * size * kWide) + first * kLanes + lane;
    v = k + size;
  }

  __device__ float* q() const { return reinterpret_cast<float*>(gy - lane) + lane; }
  __device__ float* h() const { return reinterpret_cast<float*>(r - lane) + lane; }
};

/// *to = value where index < count: a predicated store. As a branch, the compiler would move all that only the value
/// needs into it, and the tokens' long operations would wait for each other.
template <typename In>
__device__ __forceinline__ void store_below(In* to, In value, int index, int count) {
  if constexpr (sizeof(In) == 4) {
    asm volatile("{\n.reg .pred p;\nsetp.lt.s32 p, %2, %3;\n@p st.global.f32 [%0], %1;\n}\n" ::"l"(to), "f"(value),
                 "r"(index), "r"(count));
  } else {
    asm volatile("{\n.reg .pred p;\nsetp.lt.s32 p, %2, %3;\n@p st.global.b16 [%0], %1;\n}\n" ::"l"(to), "h"(value.x),
                 "r"(index), "r"(count));
  }
}

}  // namespace vrwkv::ops::cuda
