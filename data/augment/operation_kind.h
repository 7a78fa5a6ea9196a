#pragma once

#include <cstdint>

namespace vrwkv::data::augment {

/// The operations, in the order of operations.h and of named_operations(). Plain, so that CUDA's C++17 reads it, too.
enum class OperationKind : std::uint8_t {
  invert,
  posterize,
  solarize,
  solarize_add,
  auto_contrast,
  equalize,
  grayscale,
  color,
  contrast,
  brightness,
  sharpness,
  gaussian_blur,
  rotate,
  shear_x,
  shear_y,
  translate_x_rel,
  translate_y_rel
};

}  // namespace vrwkv::data::augment
