#pragma once

// What the backward pass for pairs of channels (bi_wkv_pairs_backward.cuh) keeps in shared memory and how it gets
// there, for 16-bit tensors whose rows are whole pieces of 16 bytes.

#include "ops/cuda/bi_wkv_pair_frames.cuh"
#include "ops/cuda/passing.cuh"

namespace vrwkv::ops::cuda {

// The second cache has to hold k and v until they are read again, which makes up to 9 % of the time: so what is read
// for the last time may leave it first.

/// Starts to copy 16 bytes to `shared` memory, `where` it is to be: predicated, not a branch.
template <bool kLastTime>
__device__ __forceinline__ void copy_piece(uint32_t shared, const void* from, bool where) {
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
/// Slot, then q and h; then there is room for two tensors besides those of the block's next chunk.
template <typename P, typename In>
class PairTile {
 public:
  enum Slot { kKeys, kValues, kGradients, kGates };
  static constexpr int kRow = 2 * kLanes;
  static constexpr int kParts = P::kTokens / kPart;
  static constexpr int kPartBytes = kPart * kLanes * static_cast<int>(sizeof(float4));
  static constexpr int kBytes = P::kWarps * kParts * kPartBytes;  ///< Of the block's tiles.

  __device__ __forceinline__ PairTile(char* base, int warp, int lane)
      : parts_(base + warp * kParts * kPartBytes), lane_(lane) {}

  /// The rows of a tensor's part, kRow values apart.
  __device__ __forceinline__ In* rows(int part, int slot) const {
    return reinterpret_cast<In*>(parts_ + part * kPartBytes) + slot * kPart * kRow;
  }
  /// The thread's two channels of the first of them.
  __device__ __forceinline__ In* at(int part, int slot) const { return rows(part, slot) + 2 * lane_; }
  /// The thread's (q, h, q, h) of the part's first token; those of the next one are kLanes further on. They take the
  /// places of all slots.
  __device__ __forceinline__ float4* terms(int part) const {
    return reinterpret_cast<float4*>(parts_ + part * kPartBytes) + lane_;
  }

 private:
  static_assert(sizeof(In) == 2 && P::kTokens % kPart == 0);

  char* parts_;
  int lane_;
};

/// A thread's piece of the rows of 64 channels that a warp takes at a time.
template <typename P, typename In>
struct PairPieces : SegmentPieces<P, In> {
  using SegmentPieces<P, In>::kPiece, SegmentPieces<P, In>::kPieces;

  int row;
  unsigned column;  ///< The piece's first value.

  __device__ __forceinline__ explicit PairPieces(int lane)
      : row(lane / kPieces), column(static_cast<unsigned>(lane % kPieces * kPiece)) {}

  /// Of the piece in the first rows, from their first value.
  __device__ __forceinline__ int in_tile() const { return row * 2 * kLanes + static_cast<int>(column); }
};

/// Copies of a segment's tokens into a tile, part by part from the first on.
template <typename P, typename In>
class PairCopies {
 public:
  using Tile = PairTile<P, In>;
  static constexpr uint32_t kMissingKey = std::is_same_v<In, c10::BFloat16> ? 0xff80ff80U : 0xfc00fc00U;  ///< -infinity

  __device__ __forceinline__ PairCopies(const Shape& shape, const P& place)
      : row_bytes_(static_cast<unsigned>(shape.channels) * kBytes), count_(place.count), pieces_(place.lane) {
    // Surplus columns of the last group repeat others.
    const unsigned column =
        min(place.group_channel + pieces_.column, static_cast<unsigned>(shape.channels) - Pieces::kPiece);
    from_ = static_cast<uint64_t>(place.first_row + static_cast<unsigned>(pieces_.row)) * row_bytes_ + column * kBytes;
  }

  /// Starts to copy the part of k and v to two slots of a part of the tile, to be read once more or kLastTime, and goes
  /// on to the next one. Tokens behind the sequence's end get terms that vanish.
  template <bool kLastTime>
  __device__ __forceinline__ void start_keys(const Tile& tile, int to_part, typename Tile::Slot first_slot,
                                             const Inputs<float, In>& inputs) {
    start<kLastTime, 2>(tile.rows(to_part, first_slot), {inputs.k, inputs.v}, {kMissingKey, 0});
  }
  /// The same for another tensor, which is read for the last time.
  __device__ __forceinline__ void start(const Tile& tile, int to_part, typename Tile::Slot slot, const In* tensor) {
    start<true, 1>(tile.rows(to_part, slot), {tensor}, {0});
  }
  /// Goes on to the next part.
  __device__ __forceinline__ void skip() {
    count_ -= kPart;
    from_ += static_cast<uint64_t>(kPart) * row_bytes_;
  }

 private:
  using Pieces = PairPieces<P, In>;
  static constexpr unsigned kBytes = sizeof(In);

  template <bool kLastTime, int kCount>
  __device__ __forceinline__ void start(In* rows, const In* const (&tensors)[kCount],
                                        const uint32_t (&missing)[kCount]) {
    In* const to = rows + pieces_.in_tile();
    if (count_ >= kPart) {  // The same in the whole warp; without it, every copy would be a branch.
      const auto shared = static_cast<uint32_t>(__cvta_generic_to_shared(to));
#pragma unroll
      for (int t = 0; t < kCount; ++t) {
        const char* const from = reinterpret_cast<const char*>(tensors[t]) + from_;
#pragma unroll
        for (int i = 0; i < kPart; i += Pieces::kRows) {
          copy_piece<kLastTime>(shared + (t * kPart + i) * Tile::kRow * kBytes,
                                from + static_cast<uint64_t>(i) * row_bytes_, pieces_.row < kPart - i);
        }
      }
    } else {
#pragma unroll
      for (int t = 0; t < kCount; ++t) {
        const char* const from = reinterpret_cast<const char*>(tensors[t]) + from_;
#pragma unroll 1
        for (int i = 0; i + pieces_.row < kPart; i += Pieces::kRows) {
          In* const there = to + (t * kPart + i) * Tile::kRow;
          if (i + pieces_.row < count_) {
            copy_piece<kLastTime>(static_cast<uint32_t>(__cvta_generic_to_shared(there)),
                                  from + static_cast<uint64_t>(i) * row_bytes_, true);
          } else {
            *reinterpret_cast<uint4*>(there) = {missing[t], missing[t], missing[t], missing[t]};
          }
        }
      }
    }
    skip();
  }

  uint64_t from_;  ///< In bytes.
  unsigned row_bytes_;
  int count_;
  Pieces pieces_;
};

/// Writes the rows of gk and gv, part by part from the first on, which nobody reads here: what a warp's threads have
/// left in a tile.
template <typename P, typename In>
class PairOutputs {
 public:
  using Tile = PairTile<P, In>;

  __device__ __forceinline__ PairOutputs(const Shape& shape, const P& place,
                                         const GradientPointers<float, In>& gradients)
      : row_bytes_(static_cast<unsigned>(gradients.stride) * static_cast<unsigned>(sizeof(In))), pieces_(place.lane) {
    const unsigned column = place.group_channel + pieces_.column;
    count_ = column < static_cast<unsigned>(shape.channels) ? place.count : 0;
    const uint64_t first =
        static_cast<uint64_t>(place.first_row + static_cast<unsigned>(pieces_.row)) * row_bytes_ + column * sizeof(In);
    gk_ = reinterpret_cast<char*>(gradients.gk) + first;
    gv_ = reinterpret_cast<char*>(gradients.gv) + first;
  }

  /// Writes a part, whose gk is in `rows` of the tile and gv in those behind them. (What is read behind these is not
  /// written.)
  __device__ __forceinline__ void write(const In* rows) {
    __syncwarp();
    const In* const from = rows + pieces_.in_tile();
    const int count = min(count_, kPart);
    write(gk_, from, count);
    write(gv_, from + kPart * Tile::kRow, count);
    count_ -= kPart;
  }

 private:
  using Pieces = PairPieces<P, In>;

  __device__ __forceinline__ void write(char*& to, const In* from, int count) {
#pragma unroll
    for (int i = 0; i < kPart; i += Pieces::kRows) {
      const uint4 piece = *reinterpret_cast<const uint4*>(from + i * Tile::kRow);
      if (i + pieces_.row < count) __stcs(reinterpret_cast<uint4*>(to + static_cast<uint64_t>(i) * row_bytes_), piece);
    }
    to += static_cast<uint64_t>(kPart) * row_bytes_;
  }

  char *gk_, *gv_;
  unsigned row_bytes_;
  int count_;
  Pieces pieces_;
};

/// What a thread needs of a segment besides its tokens, in places of its own in shared memory: w and u of its channels,
/// and all that stands beside the segment.
struct PairEntry {
  float4* parameters;
  PairSums *left, *right;

  /// Starts to copy them.
  template <typename P, typename In>
  __device__ __forceinline__ void start(const Shape& shape, const P& place, const Inputs<float, In>& inputs,
                                        const KeptSums<float>& kept) const {
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      const unsigned channel = place.channel(shape, c);
      __pipeline_memcpy_async(reinterpret_cast<float*>(parameters) + c, inputs.w + channel, sizeof(float));
      __pipeline_memcpy_async(reinterpret_cast<float*>(parameters) + 2 + c, inputs.u + channel, sizeof(float));
    }
    const int segment = place.chunk * P::kWarps + place.warp;
    const auto copy = [&](int direction, PairSums* to) {
      __pipeline_memcpy_async(to, kept.at_beside(direction, place.b, segment, shape, place.whole_pair(shape)),
                              sizeof(PairSums));
    };
    copy(0, left);
    copy(1, right);
  }

  __device__ __forceinline__ float2 w() const { return reinterpret_cast<const float2*>(parameters)[0]; }
  __device__ __forceinline__ float2 u() const { return reinterpret_cast<const float2*>(parameters)[1]; }
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
    row_ = reinterpret_cast<char*>(tensor + (place.first(stride) + place.whole_pair(shape)));
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
