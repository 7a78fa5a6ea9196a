#pragma once

#include "ops/cuda/hopper/shift_linear_kernel.cuh"

namespace vrwkv::ops::cuda::hopper {

/// Weights as the kernels fetch them: units of kWeightUnit bytes, rounded to bfloat16 and in the order of
/// slab_offset().
struct Packing {
  const float *key, *value;  ///< [H, C], [C, H]; for each of `chunks` chunks of H a unit of each, taking turns.
  int chunks;                ///< 0: neither.
  const float* gate;         ///< [C, C], three units of its rows behind those; or null.
  const float* squares[kShiftLinears];  ///< [C, C] each, three units of its columns; without the others.
};

constexpr int kPackThreads = 256;
constexpr int kPieces = kWeightUnit / 16;  ///< Of a unit: a thread's work.

/// blockIdx.x: the unit; blockIdx.y: kPackThreads of its pieces.
__global__ void __launch_bounds__(kPackThreads)
    pack_kernel(const __grid_constant__ Packing packing, unsigned char* packed) {
  constexpr int kPiecesOfSlabRow = kSlab / kVector;
  const int unit = static_cast<int>(blockIdx.x), behind = unit - 2 * packing.chunks;
  const bool rows = behind < 0 ? unit % 2 == 0 : packing.gate != nullptr;  // Else columns of a matrix of C rows.
  const float* from = nullptr;
  int64_t stride = kChannels;
  if (rows) {
    from = behind < 0 ? packing.key + static_cast<int64_t>(unit / 2) * kSlab * kChannels
                      : packing.gate + behind * kSlab * kChannels;
  } else if (behind < 0) {
    stride = static_cast<int64_t>(packing.chunks) * kSlab;
    from = packing.value + static_cast<int64_t>(unit / 2) * kSlab;
  } else {
    from = packing.squares[behind / kTileSlabs] + behind % kTileSlabs * kSlab;
  }
  const int pieces_of_row = rows ? kVectors : kPiecesOfSlabRow;
  unsigned char* const to = packed + static_cast<int64_t>(unit) * kWeightUnit;
  const int piece = static_cast<int>(blockIdx.y) * kPackThreads + static_cast<int>(threadIdx.x);
  const int row = piece / pieces_of_row, vector = piece % pieces_of_row;
  const float* const values = from + row * stride + vector * kVector;
  // Only units of rows have more than one slab, of kSlab rows each.
  pack_piece(to, kSlab, row, vector * kVector, load_vector<4>(values), load_vector<4>(values + 4));
}

}  // namespace vrwkv::ops::cuda::hopper
