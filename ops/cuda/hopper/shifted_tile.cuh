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

/// A thread's channels of a row of MixFactors.
struct ChannelFactors {
  float values[kVector];
  __device__ __forceinline__ ChannelFactors(const float (&row)[kChannels], int vector) {
#pragma unroll
    for (int c = 0; c < kVector; c += 4) {
      const auto piece = load_vector<4>(row + vector * kVector + c);
#pragma unroll
      for (int i = 0; i < 4; ++i) values[c + i] = piece.values[i];
    }
  }
};

/// Which neighbours a token has within its grid: bit 0 the left, 1 the right, 2 the upper, 3 the lower one.
__device__ __forceinline__ unsigned neighbours(const ShiftedTokens& from, unsigned token) {
  const unsigned width = static_cast<unsigned>(from.width), height = static_cast<unsigned>(from.height);
  const unsigned place = token % (height * width), line = place / width, column = place - line * width;
  return (column > 0 ? 1U : 0U) | (column + 1 < width ? 2U : 0U) | (line > 0 ? 4U : 0U) | (line + 1 < height ? 8U : 0U);
}

/// What a thread reads of some rows of a tile, eight threads to a row: the vectors numbered by part, 8 part + thread.
template <int rows, int threads>
struct ShiftedPart {
  static constexpr int kPerRow = 8, kParts = kVectors / kPerRow;
  static constexpr int kRowsAtOnce = threads / kPerRow, kEach = rows / kRowsAtOnce;
  static_assert(rows % kRowsAtOnce == 0 && kVectors % kPerRow == 0);
  Bits own[kEach], other[kEach];

  /// The loads are under way when this returns. `here`: the thread's first row; `edges`: neighbours() of its rows, four
  /// bits each.
  __device__ __forceinline__ void load(const __nv_bfloat16* here, int part, unsigned edges, int existing, int width) {
    const int vector = kPerRow * part + static_cast<int>(threadIdx.x) % kPerRow, group = vector / (kVectors / 4);
    const int step = (group % 2 == 0 ? -1 : 1) * (group < 2 ? 1 : width) * kChannels;
    const __nv_bfloat16* const from = here + vector * kVector;
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const auto* const row = from + i * kRowsAtOnce * kChannels;
      const bool shifts = (edges >> (4 * i + group) & 1U) != 0;
      own[i] = i < existing ? load_vector<kVector / 2>(reinterpret_cast<const uint32_t*>(row)) : Bits{};
      other[i] = shifts ? load_vector<kVector / 2>(reinterpret_cast<const uint32_t*>(row + step)) : Bits{};
    }
  }

  template <int mixes>
  __device__ __forceinline__ void write(unsigned char* const (&tiles)[mixes], const MixFactors<mixes>& factors,
                                        int part, unsigned edges) const {
    const int vector = kPerRow * part + static_cast<int>(threadIdx.x) % kPerRow, group = vector / (kVectors / 4);
    const ChannelFactors within(factors.within, vector);
    // The thread's rows lie kRowsAtOnce apart, in groups of kRows that have kTileSlabs slabs each.
    static_assert(kPerRow == kSlab / kVector && kRows % kRowsAtOnce == 0);
    const int first_place = part * kRows * 128 + slab_offset(static_cast<int>(threadIdx.x) / kPerRow,
                                                             static_cast<int>(threadIdx.x) % kPerRow * kVector);
#pragma unroll
    for (int j = 0; j < mixes; ++j) {
      const ChannelFactors a(factors.own[j], vector), b(factors.other[j], vector), alone(factors.alone[j], vector);
#pragma unroll
      for (int i = 0; i < kEach; ++i) {
        const bool shifts = (edges >> (4 * i + group) & 1U) != 0;
        const auto value = [&](int c, float x, float neighbour) {
          return x * a.values[c] + (neighbour * b.values[c] + (shifts ? within.values[c] : alone.values[c]));
        };
        Bits mixed;
#pragma unroll
        for (int pair = 0; pair < kVector / 2; ++pair) {
          const uint32_t mine = own[i].values[pair], its = other[i].values[pair];
          mixed.values[pair] =
              rounded_pair(value(2 * pair, low(mine), low(its)), value(2 * pair + 1, high(mine), high(its)));
        }
        store_vector(reinterpret_cast<uint32_t*>(tiles[j] + first_place + i * kRowsAtOnce * 128 +
                                                 i * kRowsAtOnce / kRows * (kTileSlabs - 1) * kRows * 128),
                     mixed);
      }
    }
  }
};

/// Writes the mixes of the tokens from `first` to tiles[j], of `rows` tokens each, anything behind the last token. For
/// the first `threads` threads of the block, which synchronise afterwards.
template <int rows, int threads, int mixes>
__device__ __forceinline__ void write_shifted_tiles(unsigned char* const (&tiles)[mixes], const ShiftedTokens& from,
                                                    const MixFactors<mixes>& factors, int64_t first) {
  using Part = ShiftedPart<rows, threads>;
  const int row = static_cast<int>(threadIdx.x) / Part::kPerRow;
  unsigned edges = 0;
  int existing = 0;  // Of this thread's rows.
#pragma unroll
  for (int i = 0; i < Part::kEach; ++i) {
    const int64_t token = first + row + i * Part::kRowsAtOnce;
    if (token >= from.count) break;
    ++existing;
    edges |= neighbours(from, static_cast<unsigned>(token)) << (4 * i);
  }
  const __nv_bfloat16* const here = from.tokens + (first + row) * kChannels;
  Part part;
  part.load(here, 0, edges, existing, from.width);
#pragma unroll 1
  for (int i = 0; i < Part::kParts; ++i) {
    Part next;
    if (i + 1 < Part::kParts) next.load(here, i + 1, edges, existing, from.width);
    part.write(tiles, factors, i, edges);
    part = next;
  }
  publish_writes();
}

}  // namespace vrwkv::ops::cuda::hopper
