#pragma once

#include <ATen/core/Tensor.h>
#include <c10/cuda/CUDAException.h>
#include <cuda.h>

#include <iterator>

#include "ops/cuda/hopper/wgmma.cuh"

// Copies of tiles of a tensor by the copy engine, which needs a map of the tensor (CUDA driver API, tensor maps; PTX
// ISA, cp.async.bulk.tensor).

namespace vrwkv::ops::cuda::hopper {

/// A map of what is at `from` in bfloat16, by dimensions of which the first is contiguous and the strides, in bytes,
/// are the others'; for copies of `box` in the order of slab_offset(). What is outside is read as zeros.
template <size_t dims>
CUtensorMap tensor_map(const void* from, const cuuint64_t (&sizes)[dims], const cuuint64_t (&strides)[dims - 1],
                       const cuuint32_t (&box)[dims]) {
  static const auto encode = [] {
    void* function = nullptr;
    cudaDriverEntryPointQueryResult found{};
    C10_CUDA_CHECK(
        cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &found));
    TORCH_CHECK(found == cudaDriverEntryPointSuccess, "the driver has no tensor maps");
    return reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(function);
  }();
  constexpr cuuint32_t kSteps[]{1, 1, 1, 1, 1};
  static_assert(dims <= std::size(kSteps));
  CUtensorMap map;
  const CUresult result = encode(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, dims, const_cast<void*>(from), sizes, strides,
                                 box, kSteps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                                 CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  TORCH_CHECK(result == CUDA_SUCCESS, "a tensor map of ", dims, " dimensions failed with CUresult ",
              static_cast<int>(result));
  return map;
}

/// The map of `rows` [count, C] in bfloat16, C a multiple of kSlab, each row contiguous, aligned to 16 bytes; for
/// copies of `box` rows and `slabs` slabs of columns in the order of slab_offset(), slab behind slab. What is behind
/// the last row or column is read as zeros and not written.
inline CUtensorMap map_of_rows(const at::Tensor& rows, int box, int slabs) {
  const auto count = static_cast<cuuint64_t>(rows.size(0)), columns = static_cast<cuuint64_t>(rows.size(1));
  return tensor_map<3>(rows.const_data_ptr(), {kSlab, count, columns / kSlab},
                       {static_cast<cuuint64_t>(rows.stride(0)) * 2, kSlab * 2},
                       {kSlab, static_cast<cuuint32_t>(box), static_cast<cuuint32_t>(slabs)});
}

/// Copies the box from row `row` and slab `slab` on to shared memory, where `barrier` counts its bytes.
__device__ __forceinline__ void copy_box(void* to, const CUtensorMap& map, int row, int slab, Barrier& barrier) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4}], [%5];" ::
          "r"(shared_address(to)),
      "l"(&map), "r"(0), "r"(row), "r"(slab), "r"(shared_address(&barrier.state))
      : "memory");
}

/// The same of what nobody reads after this.
__device__ __forceinline__ void copy_box_last(void* to, const CUtensorMap& map, int row, int slab, Barrier& barrier) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1, {%2, %3, "
      "%4}], [%5], %6;" ::"r"(shared_address(to)),
      "l"(&map), "r"(0), "r"(row), "r"(slab), "r"(shared_address(&barrier.state)), "l"(last_read())
      : "memory");
}

/// Copies a box from shared memory, see publish_writes(). It belongs to the group that end_stores() ends.
__device__ __forceinline__ void store_box(const CUtensorMap& map, int row, int slab, const void* from) {
  asm volatile("cp.async.bulk.tensor.3d.global.shared::cta.bulk_group [%0, {%1, %2, %3}], [%4];" ::"l"(&map), "r"(0),
               "r"(row), "r"(slab), "r"(shared_address(from))
               : "memory");
}

}  // namespace vrwkv::ops::cuda::hopper
