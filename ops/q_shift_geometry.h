#pragma once

#include <ATen/core/Tensor.h>
#include <c10/macros/Macros.h>

#include <cstdint>

namespace vrwkv::ops {

/// The grid of one q_shift call. `direction` is 1, or -1 for the transposed shift, which is the gradient.
struct QShiftGeometry {
  int64_t batch, height, width, channels;
  int64_t direction;

  /// First channel of group `g` (0 ... 4).
  C10_HOST_DEVICE int64_t bound(int64_t g) const { return channels * g / 4; }

  /// Row and column that group `g` of the token (row, column) reads; false when that is outside the grid.
  C10_HOST_DEVICE bool source(int64_t g, int64_t& row, int64_t& column) const {
    const int64_t step = (g % 2 == 0 ? -1 : 1) * direction;
    (g < 2 ? column : row) += step;
    return row >= 0 && row < height && column >= 0 && column < width;
  }
};

/// TORCH_CHECKs the arguments of q_shift and gives its geometry.
QShiftGeometry check_q_shift(const at::Tensor& x, int64_t height, int64_t width, int64_t direction);

}  // namespace vrwkv::ops
