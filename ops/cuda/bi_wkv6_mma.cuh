#pragma once

// Matrix products of one warp for bi_wkv6, in one layout of registers for every precision.

namespace vrwkv::ops::cuda {

/// Where a thread stands in its warp's matrix products: its lane is 4 * row + pair.
struct Lane {
  int warp, row, pair;

  __device__ Lane()
      : warp(static_cast<int>(threadIdx.x) / 32),
        row(static_cast<int>(threadIdx.x) % 32 / 4),
        pair(static_cast<int>(threadIdx.x) % 4) {}
};

constexpr unsigned kWholeWarp = 0xffffffffU;

/// c += a b with a [16, 8], b [8, 8] and c [16, 8] spread over a warp as PTX's mma.m16n8k8 for tf32 has it. A thread
/// holds a[row][pair], a[row + 8][pair], a[row][pair + 4], a[row + 8][pair + 4]; b[pair][row], b[pair + 4][row]; and
/// c[row][2 pair], c[row][2 pair + 1] and the same of row + 8. Callers are free in which of their indices each row and
/// column stands for, as long as a's columns and b's rows agree: so a result's registers can be the next one's factor.
template <typename T>
__device__ __forceinline__ void multiply_by_shuffles(T (&c)[4], const T (&a)[4], const T (&b)[2]) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int k = 0; k < 8; ++k) {
    const int half = k / 4, pair = k % 4;
    const T upper = __shfl_sync(kWholeWarp, a[2 * half], lane / 4 * 4 + pair);
    const T lower = __shfl_sync(kWholeWarp, a[2 * half + 1], lane / 4 * 4 + pair);
    const T left = __shfl_sync(kWholeWarp, b[half], lane % 4 * 8 + pair);
    const T right = __shfl_sync(kWholeWarp, b[half], lane % 4 * 8 + 4 + pair);
    c[0] += upper * left;
    c[1] += upper * right;
    c[2] += lower * left;
    c[3] += lower * right;
  }
}

/// Products to T's own precision. float64 has no tensor cores on every GPU; it serves for exactness, not for speed.
template <typename T>
struct Mma {
  static __device__ __forceinline__ void add(T (&c)[4], const T (&a)[4], const T (&b)[2]) {
    multiply_by_shuffles(c, a, b);
  }
};

template <>
struct Mma<float> {
  /// x to the nearest number of 11 bits; tensor cores ignore the bits below. Written out, as the conversion of PTX
  /// runs at a fraction of the rate of these. Infinity and NaN stay what they are.
  static __device__ __forceinline__ unsigned rounded(float x) {
    const unsigned bits = __float_as_uint(x);
    return x == x ? bits + 0x1000U : bits;
  }
  static __device__ __forceinline__ float value(unsigned rounded) { return __uint_as_float(rounded & 0xffffe000U); }

  static __device__ __forceinline__ void add_rounded(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  }

  static __device__ __forceinline__ void add(float (&c)[4], const float (&a)[4], const float (&b)[2]) {
#if __CUDA_ARCH__ >= 800
    const unsigned big_a[4]{rounded(a[0]), rounded(a[1]), rounded(a[2]), rounded(a[3])};
    const unsigned big_b[2]{rounded(b[0]), rounded(b[1])};
    // x = big + small to 22 bits; the product of the small parts is below float32's last bit.
    const auto small = [](float x, unsigned big) { return rounded(x - value(big)); };
    const unsigned small_a[4]{small(a[0], big_a[0]), small(a[1], big_a[1]), small(a[2], big_a[2]),
                              small(a[3], big_a[3])};
    const unsigned small_b[2]{small(b[0], big_b[0]), small(b[1], big_b[1])};
    add_rounded(c, small_a, big_b);
    add_rounded(c, big_a, small_b);
    add_rounded(c, big_a, big_b);
#else
    multiply_by_shuffles(c, a, b);
#endif
  }
};

}  // namespace vrwkv::ops::cuda
