#pragma once

#include <cstdint>

// CPU kernels of bi_wkv6 over contiguous buffers, built once for every instruction set (see ops/CMakeLists.txt).

namespace vrwkv::ops::cpu {

/// Inputs r, k, v and decay = exp(-exp(w)): [B, T, heads * 64]; u: [heads, 64].
template <typename T>
struct BiWkv6Inputs {
  int64_t batch, tokens, heads;
  const T *r, *k, *v, *decay, *u;
};

/// gy: [B, T, heads * 64]; results gr, gk, gv, gdecay: the same and gu: [B, heads, 64], one row per batch element, to
/// be added up by the caller.
template <typename T>
struct BiWkv6GradientPointers {
  const T* gy;
  T *gr, *gk, *gv, *gdecay, *gu;
};

#define VRWKV_DECLARE_BI_WKV6_KERNELS(isa)                                                      \
  namespace isa {                                                                               \
  template <typename T>                                                                         \
  void bi_wkv6_forward(const BiWkv6Inputs<T>& in, T* y);                                        \
  template <typename T>                                                                         \
  void bi_wkv6_backward(const BiWkv6Inputs<T>& in, const BiWkv6GradientPointers<T>& gradients); \
  }

VRWKV_DECLARE_BI_WKV6_KERNELS(isa_default)
VRWKV_DECLARE_BI_WKV6_KERNELS(isa_avx2)
VRWKV_DECLARE_BI_WKV6_KERNELS(isa_avx512)

#undef VRWKV_DECLARE_BI_WKV6_KERNELS

}  // namespace vrwkv::ops::cpu
