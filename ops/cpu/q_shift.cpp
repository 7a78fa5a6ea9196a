#include <ATen/Functions.h>
#include <torch/library.h>

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "ops/cpu/parallel_for.h"
#include "ops/q_shift_geometry.h"

namespace vrwkv::ops::cpu {
namespace {

/// Moves whole quarters of channel groups as bytes, so it serves every dtype.
at::Tensor shift(const at::Tensor& x_in, int64_t height, int64_t width, int64_t direction,
                 std::optional<int64_t> group) {
  const QShiftGeometry grid = check_q_shift(x_in, height, width, direction, group);
  const at::Tensor x = x_in.contiguous();
  at::Tensor y = at::empty_like(x);
  if (y.numel() == 0) return y;
  const int64_t item = x.element_size();
  const auto* source = static_cast<const std::byte*>(x.const_data_ptr());
  auto* target = static_cast<std::byte*>(y.mutable_data_ptr());
  const int64_t token_bytes = grid.channels * item;
  const int64_t grain = std::max<int64_t>(1, 32768 / token_bytes);

  at::parallel_for(0, grid.batch * height * width, grain, [&](int64_t begin, int64_t end) {
    for (int64_t token = begin; token < end; ++token) {
      const int64_t image = token / (height * width);
      for (int64_t q = 0; q < 4; ++q) {
        int64_t row = token / width % height;
        int64_t column = token % width;
        const bool inside = grid.source(q, row, column);
        const int64_t from = (image * height + row) * width + column;
        const auto bytes = static_cast<size_t>((grid.bound(q + 1) - grid.bound(q)) * item);
        for (int64_t first = grid.bound(q) * item; first < token_bytes; first += grid.group * item) {
          if (inside) {
            std::memcpy(target + token * token_bytes + first, source + from * token_bytes + first, bytes);
          } else {
            std::memset(target + token * token_bytes + first, 0, bytes);
          }
        }
      }
    }
  });
  return y;
}

}  // namespace

TORCH_LIBRARY_IMPL(vrwkv, CPU, m) { m.impl("_q_shift", shift); }

}  // namespace vrwkv::ops::cpu
