#pragma once

#include <ATen/core/Tensor.h>
#include <c10/macros/Macros.h>

#include <cstdint>
#include <optional>

namespace vrwkv::ops {

/// The grid of one q_shift call. `direction` is 1, or -1 for the transposed shift, which is the gradient.
struct QShiftGeometry {
  int64_t batch, height, width, channels;
  int64_t group;  ///< Channels that are shifted by quarters of their own.
  int64_t direction;

  /// First channel of quarter `q` (0 ... 4) within its group.
  C10_HOST_DEVICE int64_t bound(int64_t q) const { return group * q / 4; }

  /// Row and column that quarter `q` of the token (row, column) reads; false when that is outside the grid.
  C10_HOST_DEVICE bool source(int64_t q, int64_t& row, int64_t& column) const {
    const int64_t step = (q % 2 == 0 ? -1 : 1) * direction;
    (q < 2 ? column : row) += step;
    return row >= 0 && row < height && column >= 0 && column < width;
  }
};

/// TORCH_CHECKs the arguments of q_shift and gives its geometry; without `group`, all channels are one.
QShiftGeometry check_q_shift(const at::Tensor& x, int64_t height, int64_t width, int64_t direction,
                             std::optional<int64_t> group);

}  // namespace vrwkv::ops
