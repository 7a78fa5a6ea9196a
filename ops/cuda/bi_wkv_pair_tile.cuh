#pragma once

// What the backward pass for pairs of channels (bi_wkv_pairs_backward.cuh) keeps in shared memory and how it gets
// there, for 16-bit tensors whose rows are whole pieces of 16 bytes.

#include "ops/cuda/bi_wkv_pair_frames.cuh"
#include "ops/cuda/passing.cuh"

namespace vrwkv::ops::cuda {

// The second cache has to hold k and v until they are read again, which makes up to 9 % of the time: so what is read
// for the last time may leave it first.

/// Starts to copy 16 bytes to shared memory.
template <bool kLastTime>
__device__ __forceinline__ void copy_piece(void* to, const void* from) {
  if constexpr (kLastTime) {
    asm volatile("cp.async.cg.shared.global.L2::cache_hint [%0], [%1], 16, %2;" ::"r"(
                     static_cast<uint32_t>(__cvta_generic_to_shared(to))),
                 "l"(from), "l"(last_read())
                 : "memory");
  } else {
    __pipeline_memcpy_async(to, from, sizeof(uint4));
  }
}

/// Two 16-bit values, read for the last time. They are not kept in the first cache, which is small beside the tiles.
template <typename In>
__device__ __forceinline__ uint32_t load_last_time(const In* from) {
  uint32_t word;
  asm volatile("ld.global.nc.L1::no_allocate.L2::cache_hint.b32 %0, [%1], %2;"
               : "=r"(word)
               : "l"(from), "l"(last_read()));
  return word;
}

/// A warp's segment of 64 channels, part by part. A token of a channel has 8 bytes: first k, v, gy and r, each at its
/// Slot, then q and h.
template <int kTokens, typename In>
class PairTile {
 public:
  enum Slot { kKeys, kValues, kGradients, kGates };
  static constexpr int kRow = 2 * kLanes;
  static constexpr int kParts = kTokens / kPart;
  static __host__ __device__ int bytes(int warps) { return warps * kParts * kPartBytes; }

  __device__ __forceinline__ PairTile(char* base, int warp, int lane)
      : parts_(base + warp * kParts * kPartBytes), lane_(lane) {}

  /// The rows of a tensor's part, kRow values apart.
  __device__ __forceinline__ In* rows(int part, Slot slot) const {
    return reinterpret_cast<In*>(parts_ + part * kPartBytes) + slot * kPart * kRow;
  }
  /// The thread's two channels of the first of them.
  __device__ __forceinline__ In* at(int part, Slot slot) const { return rows(part, slot) + 2 * lane_; }
  /// The thread's (q, h, q, h) of the part's first token; those of the next one are kLanes further on. They take the
  /// places of all slots.
  __device__ __forceinline__ float4* terms(int part) const {
    return reinterpret_cast<float4*>(parts_ + part * kPartBytes) + lane_;
  }

 private:
  static constexpr int kPartBytes = kPart * kLanes * static_cast<int>(sizeof(float4));
  static_assert(sizeof(In) == 2 && kTokens % kPart == 0);

  char* parts_;
  int lane_;
};

/// Copies of a segment's tokens into its tile, part by part from the first on.
template <int kTokens, typename In>
class PairCopies {
 public:
  using Tile = PairTile<kTokens, In>;

  __device__ __forceinline__ PairCopies(const Shape& shape, const PairPlace<kTokens>& place)
      : channels_(static_cast<int>(shape.channels)), row_(place.lane / kPieces), count_(place.count - row_) {
    // Surplus columns of the last group repeat others.
    const int64_t piece = place.lane % kPieces * kPiece, most = shape.channels - kPiece - place.group_channel;
    from_ = (place.first_row + row_) * shape.channels + place.group_channel + (piece < most ? piece : most);
    to_ = row_ * Tile::kRow + static_cast<int>(piece);
  }

  /// Starts to copy the part of a tensor, for the last time or to read it once more; tokens behind the sequence's end
  /// are filled with `missing`.
  template <bool kLastTime>
  __device__ __forceinline__ void start(const Tile& tile, int part, typename Tile::Slot slot, const In* tensor,
                                        float missing) const {
    In* const to = tile.rows(part, slot) + to_;
    const In* const from = tensor + from_;
#pragma unroll
    for (int i = 0; i < kPart; i += kRows) {
      if (i + row_ >= kPart) continue;
      if (i < count_) {
        copy_piece<kLastTime>(to + i * Tile::kRow, from + i * channels_);
      } else {
        const float both[2] = {missing, missing};
        const uint32_t word = Chunk<In, 2>::rounded(both).word();
        *reinterpret_cast<uint4*>(to + i * Tile::kRow) = {word, word, word, word};
      }
    }
  }
  /// The same for k and v; a missing term vanishes.
  __device__ __forceinline__ void start_keys(const Tile& tile, int part, const Inputs<float, In>& inputs) const {
    start<false>(tile, part, Tile::kKeys, inputs.k, -INFINITY);
    start<false>(tile, part, Tile::kValues, inputs.v, 0.0f);
  }
  /// Goes on to the next part.
  __device__ __forceinline__ void advance() {
    count_ -= kPart;
    from_ += kPart * channels_;
  }

 private:
  static constexpr int kPiece = static_cast<int>(sizeof(uint4) / sizeof(In));  ///< Values of one copy.
  static constexpr int kPieces = Tile::kRow / kPiece;                          ///< Of a row.
  static constexpr int kRows = kLanes / kPieces;                               ///< That the warp copies at a time.

  int64_t from_;
  int channels_, row_, to_, count_;
};

/// The part of a segment in a tensor in global memory, a thread's two channels of each token.
template <typename In>
class PairRows {
 public:
  using Pair = Chunk<In, 2>;

  /// The first part of `tensor`, whose tokens are `stride` apart. Threads of surplus channels read the last ones, and
  /// write none.
  template <typename P>
  __device__ __forceinline__ PairRows(const Shape& shape, const P& place, In* tensor, int64_t stride)
      : stride_(static_cast<int>(stride)) {
    const int64_t column = place.group_channel + 2 * place.lane;
    row_ = tensor + (place.first_row * stride + (column < shape.channels ? column : shape.channels - 2));
    // So that the compiler keeps it in a register, instead of reading it from constant memory for every access.
    asm volatile("" : "+r"(stride_));
  }

  __device__ __forceinline__ void advance(int parts) { row_ += static_cast<int64_t>(parts * kPart) * stride_; }

  /// The first `count` tokens, and `missing` behind them.
  __device__ __forceinline__ void load(Pair (&to)[kPart], int count, float missing) const {
    if (count >= kPart) {
#pragma unroll
      for (int i = 0; i < kPart; ++i) to[i] = Pair(load_last_time(at(i)));
      return;
    }
    const float both[2] = {missing, missing};
#pragma unroll
    for (int i = 0; i < kPart; ++i) {
      to[i] = Pair::rounded(both);
      if (i < count) to[i] = Pair(load_last_time(at(i)));
    }
  }

  /// Rounds token i's values, where i < count: predicated as store_below(). What is written is read no more here.
  __device__ __forceinline__ void store_below(const float (&values)[2], int i, int count) const {
    asm volatile("{\n.reg .pred p;\nsetp.lt.s32 p, %2, %3;\n@p st.global.cs.b32 [%0], %1;\n}\n" ::"l"(at(i)),
                 "r"(Pair::rounded(values).word()), "r"(i), "r"(count));
  }

 private:
  __device__ __forceinline__ In* at(int i) const { return row_ + i * static_cast<int64_t>(stride_); }

  In* row_;
  int stride_;
};

}  // namespace vrwkv::ops::cuda
