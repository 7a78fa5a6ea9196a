#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>

namespace vrwkv::data::augment {

/// Pixel (x, y) of the result is taken from (a x + b y + c, d x + e y + f); both at pixel centres.
struct Affine {
  double a = 1, b = 0, c = 0;
  double d = 0, e = 1, f = 0;
};

/// That of rotate(): Pillow rounds sine and cosine so that quarter turns are exact.
inline Affine rotation(double degrees, int64_t height, int64_t width) {
  const auto rounded = [](double value) { return std::round(value * 1e15) / 1e15; };
  const double radians = -std::fmod(degrees, 360.0) * std::numbers::pi / 180.0;
  const double cosine = rounded(std::cos(radians));
  const double sine = rounded(std::sin(radians));
  const double middle_x = static_cast<double>(width) / 2;
  const double middle_y = static_cast<double>(height) / 2;
  return {.a = cosine,
          .b = sine,
          .c = cosine * -middle_x + sine * -middle_y + middle_x,
          .d = -sine,
          .e = cosine,
          .f = -sine * -middle_x + cosine * -middle_y + middle_y};
}

}  // namespace vrwkv::data::augment
