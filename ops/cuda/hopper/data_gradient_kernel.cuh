#pragma once

#include "ops/cuda/dependent_launch.cuh"
#include "ops/cuda/hopper/correlation_kernel.cuh"
#include "ops/cuda/hopper/pack_layers.cuh"

// The gradient of token_shift_linear's input. With n = x w + b, the layer norm's, and G_i the gradient of
//   out_i = (n m_i + shift(n) (1 - m_i)) W_i^T
// it is P + shift^T(Q), P = sum over i of (G_i W_i) m_i w, Q = sum over i of (G_i W_i) (1 - m_i) w.
// Half of the channels are shifted along the rows of the grid, the others along its columns. So a block takes one half
// of the channels and tiles of whole lines, rows or columns, within which all their shifts are; its share of the
// weights stays in shared memory.

namespace vrwkv::ops::cuda::hopper {

constexpr int kHalf = kChannels / 2;
constexpr int kLineGroups = 2;                       ///< Warpgroups that multiply, each its own tiles of kRows tokens.
constexpr int kLineStages = 5;                       ///< Slabs of each on their way at once.
constexpr int kLineSlabs = kGradients * kTileSlabs;  ///< Of a tile's gradients, and of the weights.
constexpr int kLineSlabBytes = kRows * 128;
constexpr int kHalfSlabBytes = kHalf * 128;
constexpr int kHalfBytes = kLineSlabs * kHalfSlabBytes;
constexpr int kStagedRow = kHalf * 2 + 16;  ///< Bytes of a row of results, and some against bank conflicts.
constexpr int kStagedBytes = kRows * kStagedRow;
constexpr int kDataGradientShared =
    kHalfBytes + kLineGroups * (kLineStages * kLineSlabBytes + kStagedBytes) + kSlabAlign;

/// The lines along which a half of the channels is shifted. Long ones are cut into segments which overlap, so that each
/// has the neighbours of what it yields.
struct Lines {
  int length, count;
  int inner, outer, step;  ///< Token `position` of a line is line / inner outer + line % inner + position step.
  int per_tile, segments;  ///< One of the two is 1.

  __device__ __forceinline__ int tiles() const {
    return segments > 1 ? count * segments : (count + per_tile - 1) / per_tile;
  }
};

/// What there is of a row of a tile: a next and a previous one on its line; a result.
constexpr unsigned kNext = 1, kPrevious = 2, kYields = 4;

/// The token of a row of a tile, -1 where there is none.
struct LinePlace {
  int token = -1;
  unsigned kind = 0;

  __device__ __forceinline__ LinePlace(const Lines& lines, int tile, int row) {
    int line, position;
    bool yields = true;
    if (lines.segments > 1) {
      line = tile / lines.segments;
      position = tile % lines.segments * (kRows - 2) - 1 + row;
      yields = row > 0 && row < kRows - 1;
    } else {
      const int of_tile = row / lines.length;
      line = of_tile < lines.per_tile ? tile * lines.per_tile + of_tile : lines.count;
      position = row - of_tile * lines.length;
    }
    if (line >= lines.count || position < 0 || position >= lines.length) return;
    token = line / lines.inner * lines.outer + line % lines.inner + position * lines.step;
    if (yields) kind = kYields | (position + 1 < lines.length ? kNext : 0) | (position > 0 ? kPrevious : 0);
  }
};

/// Launched with one block for each multiprocessor.
struct DataGradient {
  const __nv_bfloat16* gradients;  ///< [count, kGradients C]
  const float* mixes[kGradients];
  const float* weight;          ///< Null: 1.
  const unsigned char* packed;  ///< Two halves of the weights, see pack_halves_kernel.
  Lines lines[2];
  __nv_bfloat16* gx;
};

/// The weights W_i [C, C] of a layer.
struct LinearWeights {
  const float* weights[kGradients];
};
using LinearWeightsList = PackList<LinearWeights>;

/// They as right factors: for each half of the channels kLineSlabs slabs of kHalf rows. blockIdx.x: 8 slab + piece, a
/// thread a channel; blockIdx.z: the layer.
__global__ void __launch_bounds__(kChannels)
    pack_halves_kernel(const __grid_constant__ LinearWeightsList list, unsigned char* __restrict__ packed) {
  const int slab = static_cast<int>(blockIdx.x) / 8, piece = static_cast<int>(blockIdx.x) % 8;
  const int c = static_cast<int>(threadIdx.x), i = slab / kTileSlabs;
  const float* const from =
      list.layers[blockIdx.z].weights[i] + (slab % kTileSlabs * kSlab + piece * 8) * kChannels + c;
  Bits values;
  start_in_turn();
#pragma unroll
  for (int k = 0; k < 4; ++k) values.values[k] = rounded_pair(from[2 * k * kChannels], from[(2 * k + 1) * kChannels]);
  unsigned char* const to = packed + (2 * static_cast<int64_t>(blockIdx.z) + c / kHalf) * kHalfBytes +
                            slab * kHalfSlabBytes + slab_offset(c % kHalf, piece * 8);
  store_vector(reinterpret_cast<uint32_t*>(to), values);
}

constexpr int kBringers = kWarpgroup / kLineGroups;  ///< Threads of the last warpgroup that bring a group's tiles.
static_assert(kBringers == kRows);

struct DataGradientState {
  Barrier weights, places[kLineGroups], full[kLineGroups][kLineStages], read[kLineGroups][kLineStages];
  Vector<float, 4> factors[kGradients][kHalf / 2];  ///< Of two channels each: their m w, their (1 - m) w.
  /// Of the rows of a group's tiles, even and odd ones: the token and kNext, kPrevious and kYields.
  int tokens[kLineGroups][2][kRows];
  unsigned kinds[kLineGroups][2][kRows];
};

/// Some threads bring the slabs of tile after tile of one group.
__device__ __forceinline__ void bring_lines(const DataGradient& arguments, const Lines& lines, int group, int tile,
                                            int stride, unsigned char* memory, DataGradientState& state) {
  constexpr int kAtOnce = kBringers / TileRows::kPerRow, kEach = kRows / kAtOnce;
  const int thread = static_cast<int>(threadIdx.x) % kBringers;
  const int row = thread / TileRows::kPerRow, piece = TileRows::piece();
  const auto find_places = [&](int of, int count) {
    const LinePlace place(lines, of, thread);
    state.tokens[group][count % 2][thread] = place.token;
    state.kinds[group][count % 2][thread] = place.kind;
    state.places[group].arrive();
    asm volatile("bar.sync %0, %1;" ::"r"(8 + group), "n"(kBringers) : "memory");
  };
  find_places(tile, 0);
  int number = 0;
  for (int count = 0; tile < lines.tiles(); tile += stride, ++count) {
    int tokens[kEach];
#pragma unroll
    for (int i = 0; i < kEach; ++i) tokens[i] = state.tokens[group][count % 2][row + i * kAtOnce];
#pragma unroll 1
    for (int slab = 0; slab < kLineSlabs; ++slab, ++number) {
      const int stage = number % kLineStages;
      unsigned char* const to = memory + stage * kLineSlabBytes + slab_offset(row, piece * kVector);
      const __nv_bfloat16* const from = arguments.gradients + slab * kSlab + piece * kVector;
      state.read[group][stage].wait((number / kLineStages + 1) % 2);
#pragma unroll
      for (int i = 0; i < kEach; ++i) {
        copy_piece(to + i * kAtOnce * 128, from + int64_t{max(tokens[i], 0)} * (kGradients * kChannels),
                   tokens[i] >= 0);
      }
      state.full[group][stage].arrive_behind_copies();
      // While others are on their way; now the group has left the last tile, in whose place these are.
      if (slab == kLineStages) find_places(tile + stride, count + 1);
    }
  }
}

/// Blocks 2 i take the channels that are shifted along rows, 2 i + 1 the others. Of each half, the first quarter's
/// tokens are read by the next one of the line, the second quarter's by the previous one. A group's results pass
/// through shared memory: Q to their readers, then whole rows.
__global__ void __launch_bounds__((kLineGroups + 1) * kWarpgroup, 1)
    data_gradient_kernel(const __grid_constant__ DataGradient arguments) {
  __shared__ DataGradientState state;
  unsigned char* const weights = aligned_shared();
  const int half = static_cast<int>(blockIdx.x) % 2, blocks = static_cast<int>(gridDim.x) / 2;
  const Lines& lines = arguments.lines[half];
  const int thread = static_cast<int>(threadIdx.x);
  start_in_turn();
  if (thread == 0) {
    state.weights.init(1);
    for (int group = 0; group < kLineGroups; ++group) {
      state.places[group].init(kBringers);
      for (int i = 0; i < kLineStages; ++i) {
        state.full[group][i].init(kBringers);
        state.read[group][i].init(kWarpgroup / 32);
      }
    }
    publish_barriers();
    state.weights.expect(kHalfBytes);
    for (int slab = 0; slab < kLineSlabs; ++slab) {
      copy_bulk(weights + slab * kHalfSlabBytes, arguments.packed + half * kHalfBytes + slab * kHalfSlabBytes,
                kHalfSlabBytes, state.weights);
    }
  }
  for (int at = thread; at < kGradients * kHalf; at += static_cast<int>(blockDim.x)) {
    const int i = at / kHalf, c = at % kHalf, channel = half * kHalf + c;
    const float m = arguments.mixes[i][channel], w = arguments.weight == nullptr ? 1.0F : arguments.weight[channel];
    float* const to = reinterpret_cast<float*>(&state.factors[i][c / 2]) + c % 2;
    to[0] = m * w;
    to[2] = (1.0F - m) * w;
  }
  __syncthreads();
  const bool brings = thread / kWarpgroup == kLineGroups;
  const int group = brings ? thread % kWarpgroup / kBringers : thread / kWarpgroup;
  const int first = static_cast<int>(blockIdx.x) / 2 * kLineGroups + group, stride = blocks * kLineGroups;
  unsigned char* const slabs = weights + kHalfBytes + group * kLineStages * kLineSlabBytes;
  if (brings) {
    give_registers<80>();
    bring_lines(arguments, lines, group, first, stride, slabs, state);
    return;
  }
  take_registers<208>();
  unsigned char* const staged =
      weights + kHalfBytes + kLineGroups * kLineStages * kLineSlabBytes + group * kStagedBytes;
  const int lane = thread % 32, row = thread % kWarpgroup / 32 * 16 + lane / 4;  // Of sums, and 8 rows further.
  unsigned char* const own = staged + row * kStagedRow + lane % 4 * 4;
  const auto stage_values = [own](const float(&values)[kHalf / 2]) {
#pragma unroll
    for (int j = 0; j < kHalf / 8; ++j) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        *reinterpret_cast<uint32_t*>(own + h * 8 * kStagedRow + j * 16) =
            rounded_pair(values[4 * j + 2 * h], values[4 * j + 2 * h + 1]);
      }
    }
  };
  state.weights.wait(0);
  int number = 0;
#pragma unroll 1
  for (int tile = first, count = 0; tile < lines.tiles(); tile += stride, ++count) {
    state.places[group].wait(count % 2);
    float p[kHalf / 2] = {}, q[kHalf / 2] = {};
#pragma unroll 1
    for (int i = 0; i < kGradients; ++i) {
      Sums<kHalf> sums;
      clear(sums);
#pragma unroll
      for (int slab = 0; slab < kTileSlabs; ++slab, ++number) {
        const int stage = number % kLineStages;
        state.full[group][stage].wait(number / kLineStages % 2);
        publish_writes();
        begin_products();
#pragma unroll
        for (int step = 0; step < kSlab / kStep; ++step) {
          multiply(sums, factor(slabs + stage * kLineSlabBytes, step),
                   factor(weights + (i * kTileSlabs + slab) * kHalfSlabBytes, step), slab > 0 || step > 0);
        }
        end_products();
        wait_products<1>();  // All but this slab's.
        if (slab > 0 && lane == 0) state.read[group][(number - 1) % kLineStages].arrive();
      }
      wait_products<0>();
      hold(sums);
      if (lane == 0) state.read[group][(number - 1) % kLineStages].arrive();
#pragma unroll
      for (int j = 0; j < kHalf / 8; ++j) {
        const Vector<float, 4> factors = state.factors[i][4 * j + lane % 4];
#pragma unroll
        for (int k = 0; k < 4; ++k) {
          p[4 * j + k] += factors.values[k % 2] * sums.values[4 * j + k];
          q[4 * j + k] += factors.values[2 + k % 2] * sums.values[4 * j + k];
        }
      }
    }
    sync_warpgroup();  // The last tile's results have been read.
    stage_values(q);
    sync_warpgroup();
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const unsigned kind = state.kinds[group][count % 2][row + 8 * h];
#pragma unroll
      for (int j = 0; j < kHalf / 8; ++j) {
        const bool next = j < kHalf / 16;  // Whether the reader is the next one of the line.
        if ((kind & (next ? kNext : kPrevious)) == 0) continue;
        const uint32_t other =
            *reinterpret_cast<const uint32_t*>(own + (8 * h + (next ? 1 : -1)) * kStagedRow + j * 16);
        p[4 * j + 2 * h] += low(other);
        p[4 * j + 2 * h + 1] += high(other);
      }
    }
    sync_warpgroup();
    stage_values(p);
    sync_warpgroup();
    constexpr int kPieces = kHalf / kVector;
#pragma unroll
    for (int i = 0; i < kRows * kPieces / kWarpgroup; ++i) {
      const int at = thread % kWarpgroup + i * kWarpgroup, from = at / kPieces, piece = at % kPieces;
      const int token = state.tokens[group][count % 2][from];
      const Bits sums = load_vector<4>(reinterpret_cast<const uint32_t*>(staged + from * kStagedRow + piece * 16));
      if ((state.kinds[group][count % 2][from] & kYields) != 0) {
        store_piece(arguments.gx + int64_t{token} * kChannels + half * kHalf + piece * kVector, sums);
      }
    }
  }
}

}  // namespace vrwkv::ops::cuda::hopper
