#pragma once

#include "ops/cuda/hopper/block.cuh"

// Tokens as left factors of products, in registers: mixes of tokens with their Q-Shift.

namespace vrwkv::ops::cuda::hopper {

constexpr int kChannels = 192;  ///< C of the networks that these kernels serve: VRWKV-T's width.
constexpr int kVectors = kChannels / kVector;
constexpr int kTileSlabs = kChannels / kSlab;
constexpr int kSteps = kChannels / kStep;
constexpr int kRowBytes = kChannels * 2;

/// Bytes of a unit of packed weights: a narrow slab of kChannels rows, or three of kSlab rows.
constexpr int kWeightUnit = kChannels * kNarrowRow;
constexpr int kUnits = kChannels / kNarrowSlab;  ///< Of C x C weights.
constexpr int kUnitSteps = kSteps / 2;           ///< Of a unit of kSlab rows, which has half of the columns.

/// Products take their channels in an order of their own, so that a thread's places in Sums, or in a left factor, are
/// kVector channels side by side of every kSpan: the four threads of a row read and write 16 bytes each. Weights are
/// packed in that order.
constexpr int kSpan = 4 * kVector, kSpans = kChannels / kSpan;

/// The channel at `place`.
__host__ __device__ constexpr int channel_at(int place) {
  return place / kSpan * kSpan + place % 8 / 2 * kVector + place % kSpan / 8 * 2 + place % 2;
}

/// Tokens [B height width, C], of which a layer norm's weight and bias come first where they are given.
struct ShiftedTokens {
  const __nv_bfloat16* tokens;
  const float *weight, *bias;  ///< [C] or both null.
  int64_t count;               ///< B height width
  int height, width;
};

constexpr int kBlockMixes = 2;  ///< That a block makes of its tokens.

/// What n m_j + shift(n) (1 - m_j) with n = x weight + bias is made of. In shared memory, for all channels.
struct MixFactors {
  float weight[kChannels], bias[kChannels], mix[kBlockMixes][kChannels];

  /// A channel's.
  struct Column {
    float weight = 1.0F, bias = 0.0F, mix[kBlockMixes] = {};
  };

  /// What this thread brings to store(), of a block of at least kChannels threads. The loads are under way when this
  /// returns.
  static __device__ __forceinline__ Column load(const ShiftedTokens& from, const float* const (&mix)[kBlockMixes]) {
    Column column;
    const int c = static_cast<int>(threadIdx.x);
    if (c >= kChannels) return column;
    if (from.weight != nullptr) column.weight = from.weight[c];
    if (from.bias != nullptr) column.bias = from.bias[c];
#pragma unroll
    for (int j = 0; j < kBlockMixes; ++j) column.mix[j] = mix[j][c];
    return column;
  }

  /// By all threads of the block, which synchronise afterwards.
  __device__ __forceinline__ void store(const Column& column) {
    const int c = static_cast<int>(threadIdx.x);
    if (c >= kChannels) return;
    weight[c] = column.weight;
    bias[c] = column.bias;
#pragma unroll
    for (int j = 0; j < kBlockMixes; ++j) mix[j][c] = column.mix[j];
  }
};

/// Rows of 64 that a thread of a warpgroup has in Sums and in left factors: this one and the eighth behind it.
__device__ __forceinline__ int sums_row() {
  const int thread = static_cast<int>(threadIdx.x) % kWarpgroup;
  return thread / 32 * 16 + thread % 32 / 4;
}

/// Which of a row's four threads this is.
__device__ __forceinline__ int sums_part() { return static_cast<int>(threadIdx.x) % 4; }

/// A left factor of 64 rows and all channels: what a thread has of it.
struct LeftFactor {
  uint32_t values[kSteps][4];

  __device__ __forceinline__ void set(int span, const uint32_t (&steps)[2][4]) {
#pragma unroll
    for (int i = 0; i < 8; ++i) values[2 * span + i / 4][i % 4] = steps[i / 4][i % 4];
  }
};

/// Registers of a left factor are written before the products that read them begin.
template <int steps>
__device__ __forceinline__ void hold(uint32_t (&left)[steps][4]) {
#pragma unroll
  for (int step = 0; step < steps; ++step) {
#pragma unroll
    for (int i = 0; i < 4; ++i) asm volatile("" : "+r"(left[step][i])::"memory");
  }
}

/// Stores row `row` of a thread's two of sums of whole spans to `to`, rounded.
template <int n>
__device__ __forceinline__ void store_row(__nv_bfloat16* to, const Sums<n>& sums, int row) {
#pragma unroll
  for (int span = 0; span < n / kSpan; ++span) {
    Bits piece;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float* const pair = sums.values + 4 * (4 * span + i) + 2 * row;
      piece.values[i] = rounded_pair(pair[0], pair[1]);
    }
    store_piece(to + span * kSpan + sums_part() * kVector, piece);
  }
}

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

/// Tokens to the neighbour from which the shift reads a quarter of the channels: 0 the left one, 1 the right, 2 the
/// upper, 3 the lower one.
__device__ __forceinline__ int neighbour_distance(int quarter, int width) {
  return (quarter < 2 ? 1 : width) * (quarter % 2 == 0 ? -1 : 1);
}

/// A thread's two tokens of 64 and which neighbours they have.
struct ShiftedPlaces {
  int row, part;  ///< sums_row(), sums_part().
  int64_t token[2];
  unsigned neighbours[2];  ///< As GridPlace has them.

  /// The 64 tokens are those from `first` on; those behind the last one are anything.
  __device__ __forceinline__ ShiftedPlaces(const ShiftedTokens& from, int64_t first)
      : row(sums_row()), part(sums_part()) {
    asm volatile("" : "+r"(row), "+r"(part));  // What follows from them is not to take registers between tiles.
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      token[i] = first + row + 8 * i < from.count ? first + row + 8 * i : 0;
      neighbours[i] = GridPlace(from, static_cast<unsigned>(token[i])).neighbours();
    }
  }

  /// Where a span of the thread's channels comes from: 0 left, 1 right, 2 above, 3 below.
  __device__ __forceinline__ int group(int span) const { return (4 * span + part) / (kVectors / 4); }
  __device__ __forceinline__ int sign(int span) const { return group(span) % 2 == 0 ? -1 : 1; }
  __device__ __forceinline__ bool shifts(int span, int i) const { return (neighbours[i] >> group(span) & 1U) != 0; }
  __device__ __forceinline__ int channel(int span) const { return span * kSpan + part * kVector; }

  /// What a token's neighbour has of a span, or anything where there is none.
  __device__ __forceinline__ Bits other(const ShiftedTokens& from, int span, int i) const {
    const int distance = shifts(span, i) ? neighbour_distance(group(span), from.width) : 0;
    const __nv_bfloat16* const at = from.tokens + (token[i] + distance) * kChannels + channel(span);
    return load_vector<kVector / 2>(reinterpret_cast<const uint32_t*>(at));
  }
};

/// Two channels of a token and of its neighbour mixed, rounded. What is of channels begins with the first of these.
__device__ __forceinline__ void mix_pair(uint32_t (&mixed)[kBlockMixes], uint32_t own, uint32_t other, bool shifts,
                                         const float* weight, const float* bias,
                                         const float* const (&mix)[kBlockMixes]) {
  float beside[2], difference[2];
#pragma unroll
  for (int c = 0; c < 2; ++c) {
    const float n = (c == 0 ? low(own) : high(own)) * weight[c] + bias[c];
    const float neighbour = (c == 0 ? low(other) : high(other)) * weight[c] + bias[c];
    beside[c] = shifts ? neighbour : 0.0F;
    difference[c] = n - beside[c];
  }
#pragma unroll
  for (int j = 0; j < kBlockMixes; ++j) {
    mixed[j] = rounded_pair(difference[0] * mix[j][0] + beside[0], difference[1] * mix[j][1] + beside[1]);
  }
}

/// A span of a thread's two tokens and of their neighbours.
struct ShiftedSpan {
  Bits own[2], other[2];
  bool shifts[2];
  int channel;  ///< The first one.

  /// All mixes, two steps of a left factor each.
  __device__ __forceinline__ void mix(uint32_t (&steps)[kBlockMixes][2][4], const MixFactors& factors) const {
    constexpr int kPiece = 4;  // Channels whose factors are held at once.
#pragma unroll
    for (int step = 0; step < 2; ++step) {
      const int at = channel + step * kPiece;
      const auto weight = load_vector<kPiece>(factors.weight + at), bias = load_vector<kPiece>(factors.bias + at);
      Vector<float, kPiece> m[kBlockMixes];
#pragma unroll
      for (int j = 0; j < kBlockMixes; ++j) m[j] = load_vector<kPiece>(factors.mix[j] + at);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int row = i % 2, pair = i / 2;
        const float* of_mixes[kBlockMixes];
#pragma unroll
        for (int j = 0; j < kBlockMixes; ++j) of_mixes[j] = m[j].values + 2 * pair;
        uint32_t mixed[kBlockMixes];
        mix_pair(mixed, own[row].values[2 * step + pair], other[row].values[2 * step + pair], shifts[row],
                 weight.values + 2 * pair, bias.values + 2 * pair, of_mixes);
#pragma unroll
        for (int j = 0; j < kBlockMixes; ++j) steps[j][step][i] = mixed[j];
      }
    }
  }
};

}  // namespace vrwkv::ops::cuda::hopper
