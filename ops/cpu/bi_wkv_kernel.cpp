#include "ops/cpu/bi_wkv_kernel.h"

#include <ATen/Parallel.h>

#include <memory>

#include "ops/cpu/bi_wkv_exact.h"
#include "ops/cpu/bi_wkv_framed.h"
#include "ops/cpu/bi_wkv_lanes.h"

namespace vrwkv::ops::cpu::VRWKV_ISA {
namespace {

/// Vectors of channels in a column: enough independent sums to keep the arithmetic units busy, few enough for the
/// column's 12 T of them (inputs, outputs, scratch) to stay in a core's cache at T = 196.
constexpr int kVectors = 2;

/// Calls framed(framing, b, lanes, scratch, ahead) for every batch element and kVectors of channels, and where that is
/// not possible or returns false, the same for each of the vectors, and at last exact(b, lanes, scratch).
template <typename T, typename Framed, typename Exact>
void for_each_column(const BiWkvInputs<T>& in, int64_t scratch_rows, const Framed& framed, const Exact& exact) {
  constexpr int64_t width = VectorizedN<T, kVectors>::size();
  const Framing<T> framing(in);
  const int64_t columns = (in.channels + width - 1) / width;
  at::parallel_for(0, in.batch * columns, 1, [&](int64_t begin, int64_t end) {
    const auto scratch = std::make_unique_for_overwrite<T[]>(static_cast<size_t>(scratch_rows * in.tokens * width));
    const auto offset = [&](int64_t i) { return i / columns * in.tokens * in.channels + i % columns * width; };
    for (int64_t i = begin; i < end; ++i) {
      const int64_t b = i / columns;
      const int64_t first = i % columns * width;
      const int64_t ahead = i + 1 < end ? offset(i + 1) - offset(i) : 0;
      const auto done = [&](const auto& lanes) {
        return framing.all_fit(lanes.first, lanes.count) && framed(framing, b, lanes, scratch.get(), ahead);
      };
      for_each_part<kVectors, T>(first, std::min(width, in.channels - first), [&](const auto& wide) {
        if (done(wide)) return;
        for_each_part<1, T>(wide.first, wide.count, [&](const auto& lanes) {
          if (!done(lanes)) exact(b, ExactLanes<T>{lanes.first, lanes.count}, scratch.get());
        });
      });
    }
    end_streaming();
  });
}

}  // namespace

template <typename T>
void bi_wkv_forward(const BiWkvInputs<T>& in, T* y) {
  for_each_column(
      in, std::max(kFramedForwardRows, kExactForwardRows),
      [&](const Framing<T>& framing, int64_t b, const auto& lanes, T* scratch, int64_t ahead) {
        return FramedColumn(in, framing, b, lanes, scratch, ahead).forward(y);
      },
      [&](int64_t b, const ExactLanes<T>& lanes, T* scratch) { exact_forward(in, b, lanes, scratch, y); });
}

template <typename T>
void bi_wkv_backward(const BiWkvInputs<T>& in, const BiWkvGradients<T>& gradients) {
  for_each_column(
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
