#pragma once

#include <cstdint>

// CPU kernels of Bi-WKV over contiguous buffers, built once for every instruction set (see ops/CMakeLists.txt).

namespace vrwkv::ops::cpu {

/// Inputs w, u: [C]; k, v: [B, T, C].
template <typename T>
struct BiWkvInputs {
  int64_t batch, tokens, channels;
  const T *w, *u, *k, *v;
};

/// gy: [B, T, C]; results gk, gv: [B, T, C] and gw, gu: [B, C], one row per batch element, to be added up by the
/// caller.
template <typename T>
struct BiWkvGradients {
  const T* gy;
  T *gk, *gv, *gw, *gu;
};

#define VRWKV_DECLARE_BI_WKV_KERNELS(isa)                                             \
  namespace isa {                                                                     \
  template <typename T>                                                               \
  void bi_wkv_forward(const BiWkvInputs<T>& in, T* y);                                \
  template <typename T>                                                               \
  void bi_wkv_backward(const BiWkvInputs<T>& in, const BiWkvGradients<T>& gradients); \
  }

VRWKV_DECLARE_BI_WKV_KERNELS(isa_default)
VRWKV_DECLARE_BI_WKV_KERNELS(isa_avx2)
VRWKV_DECLARE_BI_WKV_KERNELS(isa_avx512)

#undef VRWKV_DECLARE_BI_WKV_KERNELS

}  // namespace vrwkv::ops::cpu
