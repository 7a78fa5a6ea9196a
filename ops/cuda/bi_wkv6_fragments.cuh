#pragma once

// PTX's instructions under bi_wkv6's kernels for bfloat16: products of bfloat16 matrices with float32 sums by one warp,
// in the registers of mma.m16n8k16. With row = lane / 4 and pair = lane % 4, a word of a matrix of 8 x 8 numbers has
// those of (row, 2 pair) and (row, 2 pair + 1). Needs compute capability 8.0.

namespace vrwkv::ops::cuda {

/// Two bfloat16 numbers, the first in the lower half.
using Word = unsigned;

__device__ __forceinline__ Word pack(float first, float second) {
  Word word;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(second), "f"(first));
  return word;
}
__device__ __forceinline__ float first_of(Word word) { return __uint_as_float(word << 16); }
__device__ __forceinline__ float second_of(Word word) { return __uint_as_float(word & 0xffff0000U); }

/// c += a b, with a [16, 16] as its four 8 x 8 quarters (upper left, lower left, upper right, lower right), b [16, 8]
/// as the transposes of its two halves, and c [16, 8] as (row, 2 pair + 0..1) and the same of row + 8.
__device__ __forceinline__ void add_product(float (&c)[4], const Word (&a)[4], Word upper_b, Word lower_b) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(upper_b), "r"(lower_b));
}

/// Four 8 x 8 matrices out of shared memory, or their transposes: lane 8 i + j gives the place of row j of matrix i.
__device__ __forceinline__ void load_matrices(Word (&to)[4], const unsigned char* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(static_cast<unsigned>(__cvta_generic_to_shared(row)))
               : "memory");
}
__device__ __forceinline__ void load_transposes(Word (&to)[4], const unsigned char* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(static_cast<unsigned>(__cvta_generic_to_shared(row)))
               : "memory");
}

/// The transpose of an 8 x 8 matrix.
__device__ __forceinline__ Word transpose(Word word) {
  Word turned;
  asm("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(turned) : "r"(word));
  return turned;
}

/// Starts to copy 16 bytes to shared memory; await_copies() waits for all that this thread has started.
__device__ __forceinline__ void start_copy(unsigned char* to, const unsigned char* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(static_cast<unsigned>(__cvta_generic_to_shared(to))),
               "l"(from)
               : "memory");
}
__device__ __forceinline__ void await_copies() { asm volatile("cp.async.wait_all;" ::: "memory"); }

/// Brings a line of global memory into the second cache.
__device__ __forceinline__ void prefetch_line(const void* line) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(line));
}

}  // namespace vrwkv::ops::cuda
