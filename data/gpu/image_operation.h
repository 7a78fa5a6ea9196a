#pragma once

#include <c10/macros/Macros.h>

#include <cstdint>

#include "data/augment/operation_kind.h"

namespace vrwkv::data::gpu {

/// A drawn operation with what its pixels need, worked out once for an image. Plain, so that CUDA's C++17 reads it,
/// too.
struct ImageOperation {
  augment::OperationKind kind;
  int whole = 0;                       ///< posterize: bits dropped; solarize, solarize_add: their argument.
  float factor = 0.0F;                 ///< Of the blends; grayscale has 0.
  double map[6] = {1, 0, 0, 0, 1, 0};  ///< Geometry: pixel (x, y) comes from (m0 x + m1 y + m2, m3 x + m4 y + m5).
  int reach = 0;                       ///< gaussian_blur: whole pixels to either side of a box, and the weights of
  std::uint32_t inner = 0, edge = 0;   ///< these and of the two beyond them, in units of 2^-24.
};

/// How often the operation writes the image to the other of its two buffers.
C10_HOST_DEVICE inline int moves(augment::OperationKind kind) {
  using augment::OperationKind;
  if (kind == OperationKind::gaussian_blur) return 6;  // Three boxes in each direction.
  return kind == OperationKind::sharpness || kind >= OperationKind::rotate ? 1 : 0;
}

/// The operations first ... first + count - 1 of a list, for the image in `pixels`.
struct ImageTask {
  std::uint8_t* pixels;  ///< [size, size, 3]
  std::uint8_t* other;   ///< As large.
  int first, count;
};

}  // namespace vrwkv::data::gpu
