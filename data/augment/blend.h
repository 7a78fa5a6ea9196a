#pragma once

#include <c10/macros/Macros.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <stdexcept>
#include <string>

namespace vrwkv::data::augment {

/// Pillow's blend of two levels: float32, limited to 0 ... 255, the fraction dropped. For CUDA, too.
C10_HOST_DEVICE inline std::uint8_t blend(int degenerate, int level, float factor) {
  const float mixed = static_cast<float>(degenerate) + factor * static_cast<float>(level - degenerate);
  return static_cast<std::uint8_t>(std::clamp(mixed, 0.0F, 255.0F));
}

/// Throws std::invalid_argument unless `value` is finite.
inline void check_finite(const char* function, double value) {
  if (!std::isfinite(value)) {
    throw std::invalid_argument(std::string(function) + ": expected a finite number, got " + std::to_string(value));
  }
}

}  // namespace vrwkv::data::augment
