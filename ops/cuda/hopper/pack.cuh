#pragma once

#include "ops/cuda/hopper/pack_layers.cuh"
#include "ops/cuda/hopper/shifted_rows.cuh"

namespace vrwkv::ops::cuda::hopper {

/// A channel mix's weights as its kernel fetches them: units of kWeightUnit bytes, rounded to bfloat16, in the order of
/// narrow_offset(), and their channels in that of channel_at().
struct Packing {
  const float *key, *value;  ///< [H, C], [C, H]; for each of `chunks` chunks of H two units of each, taking turns.
  int chunks;
  const float* gate;    ///< [C, C], behind those, two units for each kSlab of its rows.
  const float* linear;  ///< [C, C], by columns, behind those; or null.
};

using PackingList = PackList<Packing>;

constexpr int kPackThreads = 256;
constexpr int kPieces = kWeightUnit / 16;  ///< Of a unit: a thread's work.

/// blockIdx.x: the unit; blockIdx.y: kPackThreads of its pieces; blockIdx.z: the layer.
__global__ void __launch_bounds__(kPackThreads)
    pack_kernel(const __grid_constant__ PackingList list, unsigned char* packed) {
  start_in_turn();
  const Packing& packing = list.layers[blockIdx.z];
  const int unit = static_cast<int>(blockIdx.x), chunk = unit / 4, behind = unit - 4 * packing.chunks;
  const int piece = static_cast<int>(blockIdx.y) * kPackThreads + static_cast<int>(threadIdx.x);
  // A unit has kChannels rows of a narrow slab, or kSlab rows of three.
  const bool hidden = behind < 0, whole = hidden ? unit % 4 >= 2 : behind >= kUnits;
  const int rows = whole ? kChannels : kSlab, vectors = kNarrowSlab / kVector;
  const int slab = piece / vectors / rows, row = piece / vectors % rows, column = piece % vectors * kVector;
  const float* from = nullptr;
  if (hidden && whole) {
    from = packing.value + (static_cast<int64_t>(channel_at(row)) * packing.chunks + chunk) * kSlab +
           unit % 2 * kNarrowSlab;
  } else if (hidden) {
    from = packing.key + static_cast<int64_t>(chunk * kSlab + row) * kChannels + unit % 2 * kChannels / 2;
  } else if (whole) {
    from = packing.linear + channel_at(row) * kChannels + (behind - kUnits) * kNarrowSlab;
  } else {
    from = packing.gate + channel_at(behind / 2 * kSlab + row) * kChannels + behind % 2 * kChannels / 2;
  }
  const bool in_order = hidden && whole;  // Columns that are hidden channels.
  Bits bits;
#pragma unroll
  for (int i = 0; i < kVector / 2; ++i) {
    const int place = column + 2 * i;
    const auto pair = load_vector<2>(from + slab * kNarrowSlab + (in_order ? place : channel_at(place)));
    bits.values[i] = rounded_pair(pair.values[0], pair.values[1]);
  }
  unsigned char* const to =
      packed + (static_cast<int64_t>(blockIdx.z) * gridDim.x + unit) * kWeightUnit + slab * rows * kNarrowRow;
  store_vector(reinterpret_cast<uint32_t*>(to + narrow_offset(row, column)), bits);
}

}  // namespace vrwkv::ops::cuda::hopper
