#pragma once

#include "ops/cuda/hopper/wgmma.cuh"
#include "ops/cuda/vector.cuh"

// Tiles of tokens as left factors of products: mixes of tokens with their Q-Shift.

namespace vrwkv::ops::cuda::hopper {

constexpr int kChannels = 192;  ///< C of the networks that these kernels serve: VRWKV-T's width.
constexpr int kVector = 8;      ///< Channels that a thread reads at once, which share a Q-Shift group.
constexpr int kVectors = kChannels / kVector;
constexpr int kTileSlabs = kChannels / kSlab;

/// Bytes of a tile of `rows` tokens, in groups of kRows.
constexpr int tile_bytes(int rows) { return rows * kChannels * 2; }

/// Tokens [B height width, C], of which a layer norm's weight and bias come first where they are given.
struct ShiftedTokens {
  const __nv_bfloat16* tokens;
  const float *weight, *bias;  ///< [C] or both null.
  int64_t count;               ///< B height width
  int height, width;
};

using Bits = Vector<uint32_t, kVector / 2>;

__device__ __forceinline__ float low(uint32_t pair) { return __uint_as_float(pair << 16); }
__device__ __forceinline__ float high(uint32_t pair) { return __uint_as_float(pair & 0xffff0000U); }

/// n m_j + shift(n) (1 - m_j) with n = x weight + bias, as x own_j + shift(x) other_j + alone_j where the shift reads
/// outside of the grid, else + within. In shared memory, for all channels.
template <int mixes>
struct MixFactors {
  float own[mixes][kChannels], other[mixes][kChannels], alone[mixes][kChannels], within[kChannels];

  /// By all threads of the block, which synchronise afterwards.
  __device__ __forceinline__ void fill(const ShiftedTokens& from, const float* const (&mix)[mixes]) {
    for (int c = static_cast<int>(threadIdx.x); c < kChannels; c += static_cast<int>(blockDim.x)) {
      const float weight = from.weight == nullptr ? 1.0F : from.weight[c];
      const float bias = from.bias == nullptr ? 0.0F : from.bias[c];
      within[c] = bias;
#pragma unroll
      for (int j = 0; j < mixes; ++j) {
        const float m = mix[j][c];
        own[j][c] = m * weight;
        other[j][c] = (1.0F - m) * weight;
        alone[j][c] = m * bias;
      }
    }
  }
};

/// Where a token is in its grid.
struct GridPlace {
  unsigned width, height, line, column;

  __device__ __forceinline__ GridPlace(const ShiftedTokens& from, unsigned token)
      : width(static_cast<unsigned>(from.width)), height(static_cast<unsigned>(from.height)) {
    const unsigned place = token % (height * width);
    line = place / width;
    column = place - line * width;
  }

  /// Moves on by some tokens, into the next grid where this one ends. Faster than a division for grids as wide as the
  /// step.
  __device__ __forceinline__ void advance(unsigned tokens) {
    column += tokens;
    while (column >= width) {
      column -= width;
      line = line + 1 < height ? line + 1 : 0;
    }
  }

  /// Which neighbours there are: bit 0 the left, 1 the right, 2 the upper, 3 the lower one.
  __device__ __forceinline__ unsigned neighbours() const {
    return (column > 0 ? 1U : 0U) | (column + 1 < width ? 2U : 0U) | (line > 0 ? 4U : 0U) |
           (line + 1 < height ? 8U : 0U);
  }
};

/// The rows of a tile of kRows tokens that a thread of a warpgroup works at, eight threads to a row: kRowsAtOnce apart.
struct TileRows {
  static constexpr int kPerRow = 8, kRowsAtOnce = kWarpgroup / kPerRow, kEach = kRows / kRowsAtOnce;

  const __nv_bfloat16* here;  ///< The first one's tokens.
  unsigned edges = 0;         ///< Neighbours of each, four bits.
  int existing = 0;           ///< How many there are.

  __device__ __forceinline__ TileRows(const ShiftedTokens& from, int64_t first)
      : here(from.tokens + (first + row()) * kChannels) {
    GridPlace place(from, static_cast<unsigned>(first + row()));
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      if (first + row() + i * kRowsAtOnce >= from.count) break;
      ++existing;
      edges |= place.neighbours() << (4 * i);
      place.advance(kRowsAtOnce);
    }
  }

  static __device__ __forceinline__ int row() { return static_cast<int>(threadIdx.x) % kWarpgroup / kPerRow; }
  static __device__ __forceinline__ int piece() { return static_cast<int>(threadIdx.x) % kPerRow; }
};

/// A slab of a thread's rows: of each a vector of channels and its neighbour's.
struct ShiftedSlab {
  Bits own[TileRows::kEach], other[TileRows::kEach];

  /// The thread's vector of the row.
  static __device__ __forceinline__ int vector(int slab) { return TileRows::kPerRow * slab + TileRows::piece(); }
  static __device__ __forceinline__ int group(int slab) { return vector(slab) / (kVectors / 4); }

  /// The loads are under way when this returns.
  __device__ __forceinline__ void load(const TileRows& rows, int slab, int width) {
    const int of = group(slab);
    const int step = (of % 2 == 0 ? -1 : 1) * (of < 2 ? 1 : width) * kChannels;
    const __nv_bfloat16* const from = rows.here + vector(slab) * kVector;
#pragma unroll
    for (int i = 0; i < TileRows::kEach; ++i) {
      const auto* const row = from + i * TileRows::kRowsAtOnce * kChannels;
      const bool shifts = (rows.edges >> (4 * i + of) & 1U) != 0;
      own[i] = i < rows.existing ? load_vector<kVector / 2>(reinterpret_cast<const uint32_t*>(row)) : Bits{};
      other[i] = shifts ? load_vector<kVector / 2>(reinterpret_cast<const uint32_t*>(row + step)) : Bits{};
    }
  }

  template <int mixes>
  __device__ __forceinline__ void write(unsigned char* tile, const MixFactors<mixes>& factors, int mix,
                                        const TileRows& rows, int slab) const {
    constexpr int kPiece = 4;  // Channels whose factors are held at once.
    static_assert(TileRows::kPerRow == kSlab / kVector);
    const int first = vector(slab) * kVector, of = group(slab);
    Bits mixed[TileRows::kEach];
#pragma unroll
    for (int c = 0; c < kVector; c += kPiece) {
      const auto a = load_vector<kPiece>(factors.own[mix] + first + c);
      const auto b = load_vector<kPiece>(factors.other[mix] + first + c);
      const auto within = load_vector<kPiece>(factors.within + first + c);
      const auto alone = load_vector<kPiece>(factors.alone[mix] + first + c);
#pragma unroll
      for (int i = 0; i < TileRows::kEach; ++i) {
        const bool shifts = (rows.edges >> (4 * i + of) & 1U) != 0;
        const auto value = [&](int at, float x, float neighbour) {
          return x * a.values[at] + (neighbour * b.values[at] + (shifts ? within.values[at] : alone.values[at]));
        };
#pragma unroll
        for (int pair = 0; pair < kPiece / 2; ++pair) {
          const uint32_t mine = own[i].values[c / 2 + pair], its = other[i].values[c / 2 + pair];
          mixed[i].values[c / 2 + pair] =
              rounded_pair(value(2 * pair, low(mine), low(its)), value(2 * pair + 1, high(mine), high(its)));
        }
      }
    }
    unsigned char* const to = tile + slab * kRows * 128 + slab_offset(TileRows::row(), TileRows::piece() * kVector);
#pragma unroll
    for (int i = 0; i < TileRows::kEach; ++i) {
      store_vector(reinterpret_cast<uint32_t*>(to + i * TileRows::kRowsAtOnce * 128), mixed[i]);
    }
  }
};

/// Writes the mixes of the tokens of `rows` from number `mix` on to `tiles` [64, C], anything behind the last token. By
/// a warpgroup, which synchronises afterwards. `ahead`: reads a slab ahead, which takes 32 registers more.
template <bool ahead, int count, int mixes>
__device__ __forceinline__ void write_shifted_tiles(unsigned char* const (&tiles)[count], const ShiftedTokens& from,
                                                    const MixFactors<mixes>& factors, int mix, const TileRows& rows) {
  ShiftedSlab now;
  now.load(rows, 0, from.width);
#pragma unroll
  for (int slab = 0; slab < kTileSlabs; ++slab) {
    ShiftedSlab next;
    const bool more = slab + 1 < kTileSlabs;
    if (ahead && more) next.load(rows, slab + 1, from.width);
#pragma unroll
    for (int j = 0; j < count; ++j) now.write(tiles[j], factors, mix + j, rows, slab);
    if (!ahead && more) next.load(rows, slab + 1, from.width);
    now = next;
  }
  publish_writes();
}

}  // namespace vrwkv::ops::cuda::hopper
