#pragma once

// What the backward pass for pairs of channels (bi_wkv_pairs_backward.cuh) keeps in shared memory and how it gets
// there, for 16-bit tensors whose rows are whole pieces of 16 bytes.

#include "ops/cuda/bi_wkv_pair_frames.cuh"
#include "ops/cuda/passing.cuh"

namespace vrwkv::ops::cuda {

// The second cache has to hold k and v until they are read again, which makes up to 9 % of the time: so what is read
// for the last time may leave it first.

/// Starts to copy 16 bytes to shared memory, `where` it is to be: predicated, not a branch.
template <bool kLastTime>
__device__ __forceinline__ void copy_piece(void* to, const void* from, bool where) {
  const auto shared = static_cast<uint32_t>(__cvta_generic_to_shared(to));
  if constexpr (kLastTime) {
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.s32 p, %3, 0;\n@p cp.async.cg.shared.global.L2::cache_hint [%0], [%1], 16, "
        "%2;\n}\n" ::"r"(shared),
        "l"(from), "l"(last_read()), "r"(static_cast<int>(where))
        : "memory");
  } else {
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.s32 p, %2, 0;\n@p cp.async.cg.shared.global [%0], [%1], 16;\n}\n" ::"r"(shared),
        "l"(from), "r"(static_cast<int>(where))
        : "memory");
  }
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
      : row_bytes_(static_cast<unsigned>(shape.channels * kBytes)), row_(place.lane / kPieces), count_(place.count) {
    // Surplus columns of the last group repeat others.
    const int64_t piece = place.lane % kPieces * kPiece, most = shape.channels - kPiece - place.group_channel;
    from_ =
        (place.first(shape.channels) + row_ * shape.channels + place.group_channel + (piece < most ? piece : most)) *
        kBytes;
    to_ = row_ * Tile::kRow + static_cast<int>(piece);
  }

  /// Starts to copy the part of a tensor, for the last time or to read it once more; tokens behind the sequence's end
  /// are filled with `missing`.
  template <bool kLastTime>
  __device__ __forceinline__ void start(const Tile& tile, int part, typename Tile::Slot slot, const In* tensor,
                                        float missing) const {
    In* const to = tile.rows(part, slot) + to_;
    const char* const from = reinterpret_cast<const char*>(tensor) + from_;
    if (count_ >= kPart) {  // The same in the whole warp; without it, every copy would be a branch.
#pragma unroll
      for (int i = 0; i < kPart; i += kRows) {
        copy_piece<kLastTime>(to + i * Tile::kRow, from + static_cast<uint64_t>(i) * row_bytes_, row_ < kPart - i);
      }
      return;
    }
    const float both[2] = {missing, missing};
    const uint32_t word = Chunk<In, 2>::rounded(both).word();
#pragma unroll 1
    for (int i = 0; i + row_ < kPart; i += kRows) {
      if (i + row_ < count_) {
        copy_piece<kLastTime>(to + i * Tile::kRow, from + static_cast<uint64_t>(i) * row_bytes_, true);
      } else {
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
    from_ += static_cast<int64_t>(kPart) * row_bytes_;
  }

 private:
  static constexpr int kPiece = static_cast<int>(sizeof(uint4) / sizeof(In));  ///< Values of one copy.
  static constexpr int kPieces = Tile::kRow / kPiece;                          ///< Of a row.
  static constexpr int kRows = kLanes / kPieces;                               ///< That the warp copies at a time.
  static constexpr int kBytes = static_cast<int>(sizeof(In));

  int64_t from_;  ///< In bytes.
  unsigned row_bytes_;
  int row_, to_, count_;
};

/// What a block needs of a chunk besides its tokens, in shared memory.
class PairEntry {
 public:
  static constexpr int bytes() { return 4 * kLanes * static_cast<int>(sizeof(Sums<float>)); }

  /// `own`: a place of the thread; `all`: the thread's lane of bytes() for the block.
  __device__ __forceinline__ PairEntry(float4* own, Sums<float>* all) : own_(own), all_(all) {}

  /// Starts to copy w and u for the thread, and what comes in to the chunk, of which each warp takes a share.
  template <typename P, typename In>
  __device__ __forceinline__ void start(const Shape& shape, const P& place, const Inputs<float, In>& inputs,
                                        const ChunkSums<float>& kept) const {
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      const int64_t channel = place.channel(shape, c);
      __pipeline_memcpy_async(reinterpret_cast<float*>(own_) + c, inputs.w + channel, sizeof(float));
      __pipeline_memcpy_async(reinterpret_cast<float*>(own_) + 2 + c, inputs.u + channel, sizeof(float));
    }
    for (int i = place.warp; i < 4; i += shape.warps) {
      __pipeline_memcpy_async(all_ + i * kLanes, kept.at(i / 2, place, shape, i % 2), sizeof(Sums<float>));
    }
  }

  __device__ __forceinline__ float2 w() const { return reinterpret_cast<const float2*>(own_)[0]; }
  __device__ __forceinline__ float2 u() const { return reinterpret_cast<const float2*>(own_)[1]; }
  __device__ __forceinline__ Sides<Sums<float>> incoming(int c) const {
    return {load_sums(all_ + c * kLanes), load_sums(all_ + (2 + c) * kLanes)};
  }

 private:
  float4* own_;
  Sums<float>* all_;
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
      : row_bytes_(static_cast<unsigned>(stride * static_cast<int64_t>(sizeof(In)))) {
    const int64_t column = place.group_channel + 2 * place.lane;
    row_ = reinterpret_cast<char*>(tensor +
                                   (place.first(stride) + (column < shape.channels ? column : shape.channels - 2)));
  }

  __device__ __forceinline__ void advance(int parts) { row_ += static_cast<int64_t>(parts * kPart) * row_bytes_; }

  /// Token i, for the last time, where i < count, else `missing`: predicated, not a branch. It is not kept in the first
  /// cache, which is small beside the tiles.
  __device__ __forceinline__ void load_below(Pair& to, int i, int count, uint32_t missing) const {
    uint32_t word;
    asm volatile(
        "{\n.reg .pred p;\nsetp.lt.s32 p, %2, %3;\nmov.b32 %0, %4;\n"
        "@p ld.global.nc.L1::no_allocate.L2::cache_hint.b32 %0, [%1], %5;\n}\n"
        : "=&r"(word)
        : "l"(at(i)), "r"(i), "r"(count), "r"(missing), "l"(last_read()));
    to = Pair(word);
  }

  /// Rounds token i's values, where i < count: predicated as store_below(). What is written is read no more here.
  __device__ __forceinline__ void store_below(const float (&values)[2], int i, int count) const {
    asm volatile("{\n.reg .pred p;\nsetp.lt.s32 p, %2, %3;\n@p st.global.cs.b32 [%0], %1;\n}\n" ::"l"(at(i)),
                 "r"(Pair::rounded(values).word()), "r"(i), "r"(count));
  }

 private:
  __device__ __forceinline__ In* at(int i) const {
    return reinterpret_cast<In*>(row_ + static_cast<uint64_t>(i) * row_bytes_);
  }

  char* row_;
  unsigned row_bytes_;
};

}  // namespace vrwkv::ops::cuda
