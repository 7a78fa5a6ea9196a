#pragma once

#include <algorithm>
#include <cstdint>

#include "ops/cpu/vector_extras.h"

namespace vrwkv::ops::cpu::VRWKV_ISA {

/// N neighbouring vectors of channels of one batch element, or the first `count` channels of them at the end of a row
/// (Whole = false; what lies behind the row is read as 1).
template <typename T, int N, bool Whole>
struct Lanes {
  using V = VectorizedN<T, N>;
  static constexpr int64_t width = V::size();
  int64_t first, count;

  V load(const T* row) const {
    if constexpr (Whole) {
      return V::loadu(row + first);
    } else {
      return V::loadu(row + first, count);
    }
  }

  void store(T* row, const V& value) const {
    if constexpr (Whole) {
      value.store(row + first);
    } else {
      value.store(row + first, static_cast<int>(count));
    }
  }

  /// The same past the caches; the row is aligned to vectors.
  void stream(T* row, const V& value) const {
    if constexpr (Whole) {
      for (int i = 0; i < N; ++i) stream_store<T>(row + first + i * V::size() / N, value[i]);
    } else {
      store(row, value);
    }
  }

  /// Asks for the cache lines of a row that is read, or else written, soon. The processor does not foresee them: a
  /// column of channels has a few lines in each page.
  template <bool Write>
  void prefetch(const T* row) const {
    for (int i = 0; i < N; ++i) __builtin_prefetch(row + first + i * V::size() / N, Write ? 1 : 0, /*locality=*/2);
  }
};

/// Calls work(lanes) for every part of `lanes` that is M vectors wide or, at the end of a row, less.
template <int M, typename T, typename Work>
void for_each_part(int64_t first, int64_t count, const Work& work) {
  constexpr int64_t width = VectorizedN<T, M>::size();
  for (; count >= width; first += width, count -= width) work(Lanes<T, M, true>{first, width});
  if (count > 0) work(Lanes<T, M, false>{first, count});
}

}  // namespace vrwkv::ops::cpu::VRWKV_ISA
