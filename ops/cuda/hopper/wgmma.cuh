#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "ops/cuda/hopper/barrier.cuh"

// Matrix products of a warpgroup (128 threads) in bfloat16 with float32 sums: sm_90a's wgmma (PTX ISA, asynchronous
// warpgroup level matrix instructions). Both factors lie in shared memory with their columns (the summed index) in
// slabs of 64, see slab_offset(); the left one may be in registers instead. Or both are transposed: their rows are the
// summed index, their slabs of kSlab rows.

namespace vrwkv::ops::cuda::hopper {

constexpr int kWarpgroup = 128;
constexpr int kRows = 64;  ///< Of the left factor.
constexpr int kSlab = 64;  ///< Columns of a slab: rows of 128 bytes, in an order without bank conflicts.
constexpr int kStep = 16;  ///< Columns that one instruction sums over.
constexpr int kSlabAlign = 1024;

/// Bytes from the start of a slab to its element (row, column): the 16-byte pieces of a row are permuted by the row.
__host__ __device__ constexpr int slab_offset(int row, int column) {
  return row * 128 + (((column / 8) ^ (row % 8)) * 16) + column % 8 * 2;
}

/// What wgmma is told of a factor: 16 columns from `step` of a slab at `slab`, aligned to kSlabAlign.
__device__ __forceinline__ uint64_t factor(const void* slab, int step) {
  constexpr uint64_t kSwizzle128 = 1, kBytesOfEightRows = 1024;
  const uint32_t start = shared_address(slab) + static_cast<uint32_t>(step * kStep * 2);
  return (start & 0x3ffffU) >> 4 | uint64_t{1} << 16 | (kBytesOfEightRows >> 4) << 32 | kSwizzle128 << 62;
}

// The right factor may lie in slabs of 32 columns, for copies of half the size, in an order of the same kind.
constexpr int kNarrowSlab = 32;
constexpr int kNarrowRow = kNarrowSlab * 2;  ///< Bytes.

__host__ __device__ constexpr int narrow_offset(int row, int column) {
  return row * kNarrowRow + (((column / 8) ^ (row / 2 % 4)) * 16) + column % 8 * 2;
}

__device__ __forceinline__ uint64_t narrow_factor(const void* slab, int step) {
  constexpr uint64_t kSwizzle64 = 2, kBytesOfEightRows = 8 * kNarrowRow;
  const uint32_t start = shared_address(slab) + static_cast<uint32_t>(step * kStep * 2);
  return (start & 0x3ffffU) >> 4 | uint64_t{1} << 16 | (kBytesOfEightRows >> 4) << 32 | kSwizzle64 << 62;
}

/// What it is told of a transposed factor: 16 rows from `step` of slabs one behind the other, of which the first is at
/// `slabs`, aligned to kSlabAlign; as many slabs as the product has columns of this factor.
__device__ __forceinline__ uint64_t transposed_factor(const void* slabs, int step) {
  constexpr uint64_t kSwizzle128 = 1, kBytesOfEightRows = 1024, kBytesOfSlab = kSlab * 128;
  const uint32_t start = shared_address(slabs) + static_cast<uint32_t>(step * kStep * 128);
  return (start & 0x3ffffU) >> 4 | (kBytesOfSlab >> 4) << 16 | (kBytesOfEightRows >> 4) << 32 | kSwizzle128 << 62;
}

/// Sums [64, n]: value 4 j + 2 h + i of a thread is that of row 16 warp + lane / 4 + 8 h and column 8 j + 2 (lane % 4)
/// + i.
template <int n>
struct Sums {
  static constexpr int kCount = n / 2;
  float values[kCount];
};

// One list of operands for each form of the instruction.
#define VRWKV_OPERANDS_8(v, i)                                                                                      \
  "+f"((v)[i]), "+f"((v)[(i) + 1]), "+f"((v)[(i) + 2]), "+f"((v)[(i) + 3]), "+f"((v)[(i) + 4]), "+f"((v)[(i) + 5]), \
      "+f"((v)[(i) + 6]), "+f"((v)[(i) + 7])
#define VRWKV_OPERANDS_32(v, i) \
  VRWKV_OPERANDS_8(v, i), VRWKV_OPERANDS_8(v, (i) + 8), VRWKV_OPERANDS_8(v, (i) + 16), VRWKV_OPERANDS_8(v, (i) + 24)
#define VRWKV_REGISTERS_32                                                 \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define VRWKV_REGISTERS_48 \
  VRWKV_REGISTERS_32 ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47"
#define VRWKV_REGISTERS_64                                                             \
  VRWKV_REGISTERS_32                                                                   \
  ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define VRWKV_REGISTERS_96                                                             \
  VRWKV_REGISTERS_64                                                                   \
  ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, " \
  "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"
#define VRWKV_REGISTERS_100 VRWKV_REGISTERS_96 ", %96, %97, %98, %99"
#define VRWKV_REGISTERS_128                                                                        \
  VRWKV_REGISTERS_96                                                                               \
  ", %96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, " \
  "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"

/// sums = left right^T, added to what they were where `add`.
__device__ __forceinline__ void multiply(Sums<64>& sums, uint64_t left, uint64_t right, int add) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %34, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" VRWKV_REGISTERS_32 "}, %32, %33, p, 1, 1, 0, 0;\n}\n"
      : VRWKV_OPERANDS_32(sums.values, 0)
      : "l"(left), "l"(right), "r"(add));
}

__device__ __forceinline__ void multiply(Sums<96>& sums, uint64_t left, uint64_t right, int add) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %50, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n96k16.f32.bf16.bf16 {" VRWKV_REGISTERS_48 "}, %48, %49, p, 1, 1, 0, 0;\n}\n"
      : VRWKV_OPERANDS_32(sums.values, 0), VRWKV_OPERANDS_8(sums.values, 32), VRWKV_OPERANDS_8(sums.values, 40)
      : "l"(left), "l"(right), "r"(add));
}

__device__ __forceinline__ void multiply(Sums<128>& sums, uint64_t left, uint64_t right, int add) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %66, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" VRWKV_REGISTERS_64 "}, %64, %65, p, 1, 1, 0, 0;\n}\n"
      : VRWKV_OPERANDS_32(sums.values, 0), VRWKV_OPERANDS_32(sums.values, 32)
      : "l"(left), "l"(right), "r"(add));
}

/// The same for the first 192 or all of 256 columns of the sums; the right factor may be transposed.
template <int columns, bool right_transposed, int n>
__device__ __forceinline__ void multiply_columns(Sums<n>& sums, uint64_t left, uint64_t right, int add) {
  static_assert((columns == 192 || columns == 256) && columns <= n);
  if constexpr (columns == 192) {
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, %98, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n192k16.f32.bf16.bf16 {" VRWKV_REGISTERS_96
        "}, %96, %97, p, 1, 1, 0, %99;\n}\n"
        : VRWKV_OPERANDS_32(sums.values, 0), VRWKV_OPERANDS_32(sums.values, 32), VRWKV_OPERANDS_32(sums.values, 64)
        : "l"(left), "l"(right), "r"(add), "n"(right_transposed ? 1 : 0));
  } else {
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, %130, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 {" VRWKV_REGISTERS_128
        "}, %128, %129, p, 1, 1, 0, %131;\n}\n"
        : VRWKV_OPERANDS_32(sums.values, 0), VRWKV_OPERANDS_32(sums.values, 32), VRWKV_OPERANDS_32(sums.values, 64),
          VRWKV_OPERANDS_32(sums.values, 96)
        : "l"(left), "l"(right), "r"(add), "n"(right_transposed ? 1 : 0));
  }
}

__device__ __forceinline__ void multiply(Sums<192>& sums, uint64_t left, uint64_t right, int add) {
  multiply_columns<192, false>(sums, left, right, add);
}

__device__ __forceinline__ void multiply(Sums<256>& sums, uint64_t left, uint64_t right, int add) {
  multiply_columns<256, false>(sums, left, right, add);
}

/// The same with the left factor's 16 columns in registers, in the layout of Sums, pairs rounded.
__device__ __forceinline__ void multiply(Sums<64>& sums, const uint32_t (&left)[4], uint64_t right, int add) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %37, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" VRWKV_REGISTERS_32
      "}, {%32, %33, %34, %35}, %36, p, 1, 1, 0;\n}\n"
      : VRWKV_OPERANDS_32(sums.values, 0)
      : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "l"(right), "r"(add));
}

__device__ __forceinline__ void multiply(Sums<192>& sums, const uint32_t (&left)[4], uint64_t right, int add) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %101, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n192k16.f32.bf16.bf16 {" VRWKV_REGISTERS_96
      "}, {%96, %97, %98, %99}, %100, p, 1, 1, 0;\n}\n"
      : VRWKV_OPERANDS_32(sums.values, 0), VRWKV_OPERANDS_32(sums.values, 32), VRWKV_OPERANDS_32(sums.values, 64)
      : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "l"(right), "r"(add));
}

/// sums += left^T right of transposed factors.
__device__ __forceinline__ void multiply_transposed(Sums<192>& sums, uint64_t left, uint64_t right) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n192k16.f32.bf16.bf16 {" VRWKV_REGISTERS_96 "}, %96, %97, 1, 1, 1, 1, 1;\n"
      : VRWKV_OPERANDS_32(sums.values, 0), VRWKV_OPERANDS_32(sums.values, 32), VRWKV_OPERANDS_32(sums.values, 64)
      : "l"(left), "l"(right));
}

__device__ __forceinline__ void multiply_transposed(Sums<200>& sums, uint64_t left, uint64_t right) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n200k16.f32.bf16.bf16 {" VRWKV_REGISTERS_100 "}, %100, %101, 1, 1, 1, 1, 1;\n"
      : VRWKV_OPERANDS_32(sums.values, 0), VRWKV_OPERANDS_32(sums.values, 32), VRWKV_OPERANDS_32(sums.values, 64),
        "+f"(sums.values[96]), "+f"(sums.values[97]), "+f"(sums.values[98]), "+f"(sums.values[99])
      : "l"(left), "l"(right));
}

#undef VRWKV_OPERANDS_8
#undef VRWKV_OPERANDS_32
#undef VRWKV_REGISTERS_32
#undef VRWKV_REGISTERS_48
#undef VRWKV_REGISTERS_64
#undef VRWKV_REGISTERS_96
#undef VRWKV_REGISTERS_100
#undef VRWKV_REGISTERS_128

/// Before the first product, and after registers of a product were written.
__device__ __forceinline__ void begin_products() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }

/// Ends a group of products, which run on.
__device__ __forceinline__ void end_products() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

/// Waits until no more than `groups` of the groups last ended run.
template <int groups>
__device__ __forceinline__ void wait_products() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(groups) : "memory");
}

/// Keeps the compiler from moving accesses to sums of running products.
template <int n>
__device__ __forceinline__ void hold(Sums<n>& sums) {
#pragma unroll
  for (int i = 0; i < Sums<n>::kCount; ++i) asm volatile("" : "+f"(sums.values[i])::"memory");
}

/// Sums to be written by a product. Without values, the compiler would keep registers for them since before.
template <int n>
__device__ __forceinline__ void clear(Sums<n>& sums) {
#pragma unroll
  for (int i = 0; i < Sums<n>::kCount; ++i) sums.values[i] = 0.0F;
  hold(sums);
}

/// sums = the product of a left factor of `steps` times 16 columns, slabs of kRows rows at `left`, and a right one of n
/// rows at `right`, added to what they were where `add`. Starts it only.
template <int steps, int n>
__device__ __forceinline__ void start_product(Sums<n>& sums, const void* left, const void* right, bool add = false) {
  const auto* const left_bytes = static_cast<const unsigned char*>(left);
  const auto* const right_bytes = static_cast<const unsigned char*>(right);
#pragma unroll
  for (int k = 0; k < steps; ++k) {
    const int slab = k * kStep / kSlab, step = k % (kSlab / kStep);
    multiply(sums, factor(left_bytes + slab * kRows * 128, step), factor(right_bytes + slab * n * 128, step),
             add || k > 0);
  }
}

/// Two sums rounded to bfloat16, the first in the low half.
__device__ __forceinline__ uint32_t rounded_pair(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return static_cast<uint32_t>(__bfloat16_as_ushort(pair.y)) << 16 | __bfloat16_as_ushort(pair.x);
}

}  // namespace vrwkv::ops::cuda::hopper
