#pragma once

#include "ops/cuda/dependent_launch.cuh"
#include "ops/cuda/hopper/weight_ring.cuh"

// Images to tokens in one kernel: patches are cut out and rounded on their way into the left factors of a product with
// the embedding's weights.

namespace vrwkv::ops::cuda::hopper {

constexpr int kPatch = 16;           ///< Side of a patch: a slab is four of its rows.
constexpr int kEmbedChannels = 192;  ///< Of the tokens.
constexpr int kEmbedGroups = 2;      ///< Warpgroups, each with tokens of its own: kRows at a time.
constexpr int kEmbedThreads = kEmbedGroups * kWarpgroup;
constexpr int kEmbedTile = kEmbedGroups * kRows;
constexpr int kEmbedStages = 6;
constexpr int kEmbedUnit = kEmbedChannels * kSlab * 2;  ///< Bytes of a slab of weights.
/// Slabs of patches that a warpgroup has room for: one is written while two may still be read. The results fill it,
/// too.
constexpr int kEmbedSlabs = 3;
constexpr int kEmbedSlabBytes = kRows * kSlab * 2;
constexpr int kEmbedShared = kEmbedGroups * kEmbedSlabs * kEmbedSlabBytes + kEmbedStages * kEmbedUnit + kSlabAlign;
constexpr int kSlabsOfChannel = kPatch * kPatch / kSlab;
static_assert(kEmbedSlabs * kEmbedSlabBytes >= kRows * kEmbedChannels * 2);

using EmbedRing = WeightRing<kEmbedStages, kEmbedThreads / 32, kEmbedUnit>;
using EmbedSums = Sums<kEmbedChannels>;

struct PatchEmbed {
  const float* images;  ///< [B, channels, height kPatch, width kPatch], of less than 2^32 elements.
  int channels, height, width;
  int64_t count;                ///< B height width
  const unsigned char* packed;  ///< channels * kSlabsOfChannel units.
  const float* bias;            ///< [C]
  const float* places;          ///< [height width, C]
  __nv_bfloat16* out;           ///< [count, C]
  __nv_bfloat16* rows;          ///< [count, channels kPatch kPatch], the patches; null: are not kept.
};

/// The pieces of 8 pixels that a thread of a warpgroup cuts out of a slab: one of each kRowsAtOnce-th token.
struct PatchPieces {
  static constexpr int kPerToken = kSlab / kVector, kTokensAtOnce = kWarpgroup / kPerToken,
                       kEach = kRows / kTokensAtOnce;

  static __device__ __forceinline__ int token() { return static_cast<int>(threadIdx.x) % kWarpgroup / kPerToken; }
  static __device__ __forceinline__ int piece() { return static_cast<int>(threadIdx.x) % kPerToken; }
};

/// Where a thread's tokens have their patches.
struct PatchPlaces {
  unsigned first[PatchPieces::kEach];  ///< The thread's pixels of the first slab.

  __device__ __forceinline__ PatchPlaces(const PatchEmbed& from, int64_t first_token) {
    const unsigned area = static_cast<unsigned>(from.height * from.width), width = static_cast<unsigned>(from.width);
    const unsigned line = width * kPatch;  // Pixels.
#pragma unroll
    for (int i = 0; i < PatchPieces::kEach; ++i) {
      const int64_t index = first_token + PatchPieces::token() + i * PatchPieces::kTokensAtOnce;
      const auto token = static_cast<unsigned>(min(index, from.count - 1));  // One that there is.
      const unsigned image = token / area, place = token % area, row = place / width, column = place % width;
      const unsigned piece = static_cast<unsigned>(PatchPieces::piece());
      first[i] = (image * static_cast<unsigned>(from.channels * from.height) + row) * kPatch * line + column * kPatch +
                 piece / 2 * line + piece % 2 * kVector;
    }
  }
};

/// A thread's pixels of a slab. Nobody reads an image soon after this: what the second cache has been given to write is
/// not to go for it.
struct PatchSlab {
  Chunk<float, 4> pixels[PatchPieces::kEach][2];

  /// The loads are under way when this returns.
  __device__ __forceinline__ void load(const PatchEmbed& from, const PatchPlaces& places, int slab) {
    const unsigned line = static_cast<unsigned>(from.width) * kPatch;
    const unsigned offset = static_cast<unsigned>(slab / kSlabsOfChannel * from.height) * kPatch * line +
                            static_cast<unsigned>(slab % kSlabsOfChannel) * (kSlab / kPatch) * line;
#pragma unroll
    for (int i = 0; i < PatchPieces::kEach; ++i) {
      const float* const at = from.images + (places.first[i] + offset);
#pragma unroll
      for (int half = 0; half < 2; ++half) pixels[i][half] = load_passing<4>(at + 4 * half);
    }
  }

  /// Writes them to a slab of a left factor, and to the thread's places of `rows`, if there are any.
  __device__ __forceinline__ void write(unsigned char* slab, __nv_bfloat16* rows, int row_length, int existing) const {
#pragma unroll
    for (int i = 0; i < PatchPieces::kEach; ++i) {
      Bits piece;
#pragma unroll
      for (int pair = 0; pair < kVector / 2; ++pair) {
        const auto& half = pixels[i][pair / 2];
        piece.values[pair] = rounded_pair(half[pair % 2 * 2], half[pair % 2 * 2 + 1]);
      }
      const int row = PatchPieces::token() + i * PatchPieces::kTokensAtOnce;
      store_vector(reinterpret_cast<uint32_t*>(slab + slab_offset(row, PatchPieces::piece() * kVector)), piece);
      if (rows != nullptr && i < existing) {
        store_piece(rows + static_cast<int64_t>(i) * PatchPieces::kTokensAtOnce * row_length, piece);
      }
    }
  }
};

/// Starts the sums of the tokens from `first` on with their places: all loads are under way at once.
__device__ __forceinline__ void load_places(EmbedSums& sums, const PatchEmbed& from, int64_t first) {
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) % kWarpgroup / 32;
  const unsigned area = static_cast<unsigned>(from.height * from.width);
  const float* places[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const unsigned token = static_cast<unsigned>(first) + static_cast<unsigned>(16 * warp + lane / 4 + 8 * half);
    places[half] = from.places + static_cast<int64_t>(token % area) * kEmbedChannels + lane % 4 * 2;
  }
#pragma unroll
  for (int j = 0; j < kEmbedChannels / 8; ++j) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const auto place = load_vector<2>(places[half] + 8 * j);
#pragma unroll
      for (int i = 0; i < 2; ++i) sums.values[4 * j + 2 * half + i] = place.values[i];
    }
  }
}

__device__ __forceinline__ void add_bias(EmbedSums& sums, const float* bias) {
#pragma unroll
  for (int j = 0; j < kEmbedChannels / 8; ++j) {
    const auto of_channels = load_vector<2>(bias + 8 * j + static_cast<int>(threadIdx.x) % 4 * 2);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
      for (int i = 0; i < 2; ++i) sums.values[4 * j + 2 * half + i] += of_channels.values[i];
    }
  }
}

/// Copies a warpgroup's results, from token `first` on, to `out`.
__device__ __forceinline__ void copy_tokens(const PatchEmbed& to, const unsigned char* staged, int64_t first) {
  using Pieces = RowPieces<kEmbedChannels>;
  const int64_t row = first + Pieces::first_row();
  __nv_bfloat16* const target = to.out + row * kEmbedChannels + Pieces::first_piece() * kVector;
#pragma unroll
  for (int i = 0; i < Pieces::kCount; ++i) {
    const Bits values = Pieces::staged(staged, i);
    if (row + Pieces::rows_to(i) < to.count) {
      store_piece(target + Pieces::rows_to(i) * kEmbedChannels + Pieces::columns_to(i), values);
    }
  }
}

/// out = patches weight^T + (bias + places)
__global__ void __launch_bounds__(kEmbedThreads, 1) patch_embed_kernel(const __grid_constant__ PatchEmbed arguments) {
  __shared__ RingState<kEmbedStages> state;
  __shared__ alignas(16) float bias[kEmbedChannels];
  unsigned char* const shared = aligned_shared();
  const int group = warpgroup(), slabs = arguments.channels * kSlabsOfChannel, row_length = slabs * kSlab;
  const int64_t step = static_cast<int64_t>(gridDim.x) * kEmbedTile;
  const int64_t block_first = static_cast<int64_t>(blockIdx.x) * kEmbedTile;
  const int tiles = static_cast<int>((arguments.count - block_first + step - 1) / step);
  const auto first_token = [&](int number) { return block_first + number * step + group * kRows; };
  const EmbedRing ring{shared + kEmbedGroups * kEmbedSlabs * kEmbedSlabBytes, arguments.packed, slabs, slabs * tiles,
                       state};
  start_in_turn();
  if (threadIdx.x == 0) ring.start();
  for (int c = static_cast<int>(threadIdx.x); c < kEmbedChannels; c += kEmbedThreads) bias[c] = arguments.bias[c];
  __syncthreads();
  unsigned char* const tile = shared + group * kEmbedSlabs * kEmbedSlabBytes;

  // What is read next: two slabs are on their way while one is multiplied.
  int next_slab = 0, next_tile = 0;
  PatchPlaces next_places(arguments, first_token(0));
  const auto load_next = [&](PatchSlab& slab) {
    slab.load(arguments, next_places, next_slab);
    if (++next_slab == slabs) {
      next_slab = 0;
      if (next_tile + 1 < tiles) ++next_tile;
      next_places = PatchPlaces(arguments, first_token(next_tile));
    }
  };
  PatchSlab first, second;
  load_next(first);
  load_next(second);
  EmbedSums sums;
  load_places(sums, arguments, first_token(0));
  int unit = 0;
  for (int number = 0; number < tiles; ++number) {
    const int64_t token = first_token(number), own = token + PatchPieces::token();
    const int64_t left = arguments.count - own;
    const int existing =
        left <= 0 ? 0
                  : static_cast<int>(min((left + PatchPieces::kTokensAtOnce - 1) / PatchPieces::kTokensAtOnce,
                                         static_cast<int64_t>(PatchPieces::kEach)));
    __nv_bfloat16* rows =
        arguments.rows == nullptr ? nullptr : arguments.rows + own * row_length + PatchPieces::piece() * kVector;
    const auto multiply_slab = [&](PatchSlab& pixels, int slab) {
      unsigned char* const place = tile + slab % kEmbedSlabs * kEmbedSlabBytes;
      pixels.write(place, rows, row_length, existing);
      if (rows != nullptr) rows += kSlab;
      publish_writes();
      load_next(pixels);
      sync_warpgroup();
      const unsigned char* const weights = ring.wait(unit + slab);
      hold(sums);
      begin_products();
#pragma unroll
      for (int step = 0; step < kSlab / kStep; ++step) {
        multiply(sums, factor(place, step), factor(weights, step), 1);
      }
      end_products();
      wait_products<1>();
      if (slab > 0) ring.release(unit + slab - 1);
    };
    add_bias(sums, bias);
#pragma unroll 1
    for (int slab = 0; slab < slabs; slab += 2) {  // An even number.
      multiply_slab(first, slab);
      multiply_slab(second, slab + 1);
    }
    wait_products<0>();
    hold(sums);
    ring.release(unit + slabs - 1);
    unit += slabs;
    sync_warpgroup();  // The slabs have been read.
    stage_rows(tile, sums);
    if (number + 1 < tiles) load_places(sums, arguments, first_token(number + 1));
    sync_warpgroup();
    copy_tokens(arguments, tile, token);
    sync_warpgroup();  // So have the results.
  }
}

constexpr int kEmbedPackThreads = 256;

/// Rounds and packs the weights [C, slabs * kSlab], units of kEmbedUnit bytes. blockIdx.x: the unit; blockIdx.y:
/// kEmbedPackThreads of its pieces.
__global__ void __launch_bounds__(kEmbedPackThreads)
    pack_embedding_kernel(const float* __restrict__ weight, unsigned char* __restrict__ packed) {
  const int unit = static_cast<int>(blockIdx.x);
  const int piece = static_cast<int>(blockIdx.y * kEmbedPackThreads + threadIdx.x);
  const int row = piece / (kSlab / kVector), column = piece % (kSlab / kVector) * kVector;
  const float* const from = weight + (static_cast<int64_t>(row) * gridDim.x + unit) * kSlab + column;
  start_in_turn();
  pack_piece(packed + static_cast<int64_t>(unit) * kEmbedUnit, kEmbedChannels, row, column, load_vector<4>(from),
             load_vector<4>(from + 4));
}

}  // namespace vrwkv::ops::cuda::hopper
