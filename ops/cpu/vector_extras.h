#pragma once

// What ATen's vectors lack, by the processor's own instructions where there are some.

#include <ATen/cpu/vec/vec.h>

#include <cstdint>
#include <type_traits>

namespace vrwkv::ops::cpu::VRWKV_ISA {

using at::vec::Vectorized;
using at::vec::VectorizedN;

/// exp_u20(), bit by bit in the range of float32's normal numbers, in half as many instructions. Below that it goes to
/// 0 through the subnormal numbers, above to infinity; of NaN it makes a number, as exp_u20() does.
template <typename T, int N>
VectorizedN<T, N> short_exp(const VectorizedN<T, N>& x) {
#if defined(CPU_CAPABILITY_AVX512)
  if constexpr (std::is_same_v<T, float>) {
    VectorizedN<T, N> result;
    for (int i = 0; i < N; ++i) {
      const __m512 bounded = _mm512_max_ps(x[i], _mm512_set1_ps(-150.0F));
      const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(bounded, _mm512_set1_ps(1.44269504F)),
                                            _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
      const __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693147182F), bounded);
      __m512 power = _mm512_set1_ps(0.00828929059F);
      for (const float coefficient : {0.0418978221F, 0.166676521F, 0.499991506F, 0.999999701F, 1.0F}) {
        power = _mm512_fmadd_ps(power, r, _mm512_set1_ps(coefficient));
      }
      result[i] = _mm512_scalef_ps(power, n);
    }
    return result;
  }
#endif
  return x.exp_u20();
}

/// Writes a vector past the caches, where the processor can: without reading the lines first, and without driving
/// others out. `to` is aligned to the vector.
template <typename T>
void stream_store(T* to, const Vectorized<T>& value) {
#if defined(CPU_CAPABILITY_AVX512)
  if constexpr (std::is_same_v<T, float>) return _mm512_stream_ps(to, value);
  if constexpr (std::is_same_v<T, double>) return _mm512_stream_pd(to, value);
#elif defined(CPU_CAPABILITY_AVX2)
  if constexpr (std::is_same_v<T, float>) return _mm256_stream_ps(to, value);
  if constexpr (std::is_same_v<T, double>) return _mm256_stream_pd(to, value);
#endif
  value.store(to);
}

/// What this thread has written so is seen by others before what it writes from now on.
inline void end_streaming() {
#if defined(CPU_CAPABILITY_AVX512) || defined(CPU_CAPABILITY_AVX2)
  _mm_sfence();
#endif
}

/// Whether rows of `stride` values from `rows` on are aligned to vectors.
template <typename T>
bool rows_are_aligned(const T* rows, int64_t stride) {
  constexpr auto bytes = static_cast<uintptr_t>(Vectorized<T>::size()) * sizeof(T);
  return reinterpret_cast<uintptr_t>(rows) % bytes == 0 && stride % Vectorized<T>::size() == 0;
}

}  // namespace vrwkv::ops::cpu::VRWKV_ISA
