#include "ops/cpu/bi_wkv_kernel.h"

#include <c10/core/CPUAllocator.h>

#include "ops/cpu/bi_wkv_exact.h"
#include "ops/cpu/bi_wkv_framed.h"
#include "ops/cpu/bi_wkv_lanes.h"
#include "ops/cpu/parallel_for.h"

namespace vrwkv::ops::cpu::VRWKV_ISA {
namespace {

/// Vectors of channels in a column: enough independent sums to keep the arithmetic units busy, few enough for what a
/// column needs (inputs, outputs, scratch) to stay in a core's cache. Of a backward pass that is more.
constexpr int kForwardVectors = 2;
template <typename T>
constexpr int kBackwardVectors = sizeof(Vectorized<T>) < 64 ? 2 : 1;

/// A thread takes no fewer elements than this: it would not be done before the others have heard of their share.
constexpr int64_t kElementsPerThread = 8192;

/// Calls framed(framing, b, lanes, scratch, ahead) for every batch element and N vectors of channels, and where that is
/// not possible or returns false, the same for each of the vectors, and at last exact(b, lanes, scratch).
template <int N, typename T, typename Framed, typename Exact>
void for_each_column(const BiWkvInputs<T>& in, int64_t scratch_rows, const Framed& framed, const Exact& exact) {
  constexpr int64_t width = VectorizedN<T, N>::size();
  const Framing<T> framing(in);
  const int64_t columns = (in.channels + width - 1) / width;
  const int64_t grain = std::max<int64_t>(1, kElementsPerThread / (in.tokens * width));
  at::parallel_for(0, in.batch * columns, grain, [&](int64_t begin, int64_t end) {
    // Aligned to cache lines: vectors that lie across two of them are slow.
    const c10::DataPtr memory =
        c10::GetCPUAllocator()->allocate(static_cast<size_t>(scratch_rows * in.tokens * width) * sizeof(T));
    T* const scratch = static_cast<T*>(memory.get());
    const auto offset = [&](int64_t i) { return i / columns * in.tokens * in.channels + i % columns * width; };
    for (int64_t i = begin; i < end; ++i) {
      const int64_t b = i / columns;
      const int64_t first = i % columns * width;
      const int64_t ahead = i + 1 < end ? offset(i + 1) - offset(i) : 0;
      const auto compute = [&](const auto& lanes) {
        return framing.all_fit(lanes.first, lanes.count) && framed(framing, b, lanes, scratch, ahead);
      };
      for_each_part<N, T>(first, std::min(width, in.channels - first), [&](const auto& wide) {
        if (compute(wide)) return;
        for_each_part<1, T>(wide.first, wide.count, [&](const auto& lanes) {
          if (N == 1 || !compute(lanes)) exact(b, ExactLanes<T>{lanes.first, lanes.count}, scratch);
        });
      });
    }
    end_streaming();
  });
}

}  // namespace

template <typename T>
void bi_wkv_forward(const BiWkvInputs<T>& in, T* y) {
  for_each_column<kForwardVectors>(
      in, std::max(kFramedForwardRows, kExactForwardRows),
      [&](const Framing<T>& framing, int64_t b, const auto& lanes, T* scratch, int64_t ahead) {
        return FramedColumn(in, framing, b, lanes, scratch, ahead).forward(y);
      },
      [&](int64_t b, const ExactLanes<T>& lanes, T* scratch) { exact_forward(in, b, lanes, scratch, y); });
}

template <typename T>
void bi_wkv_backward(const BiWkvInputs<T>& in, const BiWkvGradients<T>& gradients) {
  for_each_column<kBackwardVectors<T>>(
      in, std::max(kFramedBackwardRows, kExactBackwardRows),
      [&](const Framing<T>& framing, int64_t b, const auto& lanes, T* scratch, int64_t ahead) {
        return FramedColumn(in, framing, b, lanes, scratch, ahead).backward(gradients);
      },
      [&](int64_t b, const ExactLanes<T>& lanes, T* scratch) { exact_backward(in, gradients, b, lanes, scratch); });
}

template void bi_wkv_forward<float>(const BiWkvInputs<float>&, float*);
template void bi_wkv_forward<double>(const BiWkvInputs<double>&, double*);
template void bi_wkv_backward<float>(const BiWkvInputs<float>&, const BiWkvGradients<float>&);
template void bi_wkv_backward<double>(const BiWkvInputs<double>&, const BiWkvGradients<double>&);

}  // namespace vrwkv::ops::cpu::VRWKV_ISA
