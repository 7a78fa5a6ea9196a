#pragma once

// The tiles of tokens that the framed Bi-WKV keeps in shared memory.

#include <cuda_pipeline.h>

#include "ops/cuda/bi_wkv_block.cuh"

namespace vrwkv::ops::cuda {

/// Starts to copy the segment's tokens of one tensor to this warp's rows of a tile, kRow values apart; `tile` is at the
/// thread's own column. Rows behind the sequence's end are filled with `missing`. Complete after finish_loads().
template <int kRow, typename P, typename In>
__device__ __forceinline__ void load_segment(In* tile, const In* tensor, In missing, const P& place,
                                             const Shape& shape) {
  constexpr int kTokens = P::kTokens;
  constexpr int kPiece = 16 / static_cast<int>(sizeof(In));  // values that one thread copies at a time
  constexpr int kPieces = kLanes / kPiece;                   // of a row
  constexpr int kRows = kLanes / kPieces;                    // that the warp copies at a time
  if (shape.vectorized && place.group_channel + kLanes <= shape.channels) {
    struct alignas(16) Piece {
      In values[kPiece];
    } fill;
#pragma unroll
    for (int i = 0; i < kPiece; ++i) fill.values[i] = missing;
    const int row = place.lane / kPieces, first = place.lane % kPieces * kPiece;
    const In* from = tensor + (place.first_element - place.lane + row * shape.channels + first);
    In* to = tile - place.lane + row * kRow + first;
#pragma unroll
    for (int round = 0; round < (kTokens + kRows - 1) / kRows; ++round) {
      if (round * kRows + row < place.count) {
        __pipeline_memcpy_async(to + round * kRows * kRow, from, sizeof(Piece));
      } else if (kTokens % kRows == 0 || round * kRows + row < kTokens) {
        *reinterpret_cast<Piece*>(to + round * kRows * kRow) = fill;
      }
      from += kRows * shape.channels;
    }
    return;
  }
  const In* from = tensor + place.first_element;
#pragma unroll 4
  for (int i = 0; i < kTokens; ++i) tile[i * kRow] = i < place.count ? from[i * shape.channels] : missing;
}

/// Waits for load_segment() of all lanes of the warp.
__device__ __forceinline__ void finish_loads() {
  __pipeline_commit();
  __pipeline_wait_prior(0);
  __syncwarp();
}

/// One thread's columns of the forward pass's tiles: a segment of tokens of one channel, value i at [i * kLanes].
template <typename In, int kTokens>
struct ForwardTiles {
  static __host__ __device__ int bytes(int warps) { return 3 * size(warps) * static_cast<int>(sizeof(In)); }
  static __host__ __device__ int size(int warps) { return warps * kTokens * kLanes; }

  In *k, *v, *r;

  template <typename P>
  __device__ ForwardTiles(char* base, const P& place, int warps)
      : k(reinterpret_cast<In*>(base) + place.warp * kTokens * kLanes + place.lane),
        v(k + size(warps)),
        r(v + size(warps)) {}
};

/// The same for the backward pass. e, q and h are what is computed of k, r and gy, and take their place: a row of k
/// lies at the start of the row of e, so value i of k, r and gy is at [i * kWideRow].
template <typename In, int kTokens>
struct BackwardTiles {
  static constexpr int kWideRow = kLanes * static_cast<int>(sizeof(float)) / static_cast<int>(sizeof(In));
  static __host__ __device__ int bytes(int warps) {
    return ForwardTiles<In, kTokens>::size(warps) * static_cast<int>(sizeof(In) + 3 * sizeof(float));
  }

  float *e, *q, *h;
  In* v;
  int lane;

  template <typename P>
  __device__ BackwardTiles(char* base, const P& place, int warps)
      : e(reinterpret_cast<float*>(base) + place.warp * kTokens * kLanes + place.lane),
        q(e + ForwardTiles<In, kTokens>::size(warps)),
        h(q + ForwardTiles<In, kTokens>::size(warps)),
        v(reinterpret_cast<In*>(reinterpret_cast<float*>(base) + 3 * ForwardTiles<In, kTokens>::size(warps)) +
          place.warp * kTokens * kLanes + place.lane),
        lane(place.lane) {}

  __device__ In* k() const { return reinterpret_cast<In*>(e - lane) + lane; }
  __device__ In* r() const { return reinterpret_cast<In*>(q - lane) + lane; }
  __device__ In* gy() const { return reinterpret_cast<In*>(h - lane) + lane; }
};

}  // namespace vrwkv::ops::cuda
