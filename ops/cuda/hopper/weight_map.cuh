#pragma once

#include "ops/cuda/hopper/shifted_rows.cuh"
#include "ops/cuda/hopper/tensor_map.cuh"

// A weight [C, C] in bfloat16 as a right factor straight from where it lies, no kernel packs it before: the copy engine
// brings its rows in the order of channel_at().

namespace vrwkv::ops::cuda::hopper {

constexpr int kWeightSlabBytes = kChannels * 128;
constexpr int kWeightBytes = kTileSlabs * kWeightSlabBytes;

/// `weight` contiguous, aligned to 16 bytes; for copies of `spans` spans of its rows. Row 32 s + 8 a + 2 q + b of it
/// comes to place 32 s + 8 q + 2 a + b.
inline CUtensorMap map_of_weight(const at::Tensor& weight, int spans = kSpans) {
  static_assert(kSpan == 32 && channel_at(8 * 1) == 2 && channel_at(2) == 8);
  constexpr cuuint64_t kRow = kRowBytes;
  return tensor_map<5>(weight.const_data_ptr(), {kChannels, 2, 4, 4, kSpans}, {kRow, 8 * kRow, 2 * kRow, kSpan * kRow},
                       {kSlab, 2, 4, 4, static_cast<cuuint32_t>(spans)});
}

/// Copies the map's spans, from number `span` on, of slab `slab` of a weight's columns to shared memory, where
/// `barrier` counts them.
__device__ __forceinline__ void copy_weight_slab(void* to, const CUtensorMap& map, int slab, int span,
                                                 Barrier& barrier) {
  asm volatile(
      "cp.async.bulk.tensor.5d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %3, %3, %4}], "
      "[%5];" ::"r"(shared_address(to)),
      "l"(&map), "r"(slab * kSlab), "r"(0), "r"(span), "r"(shared_address(&barrier.state))
      : "memory");
}

}  // namespace vrwkv::ops::cuda::hopper
