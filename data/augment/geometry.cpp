#include <ATen/ops/empty_like.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "data/augment/affine.h"
#include "data/augment/blend.h"
#include "data/augment/operations.h"
#include "data/check_image.h"

namespace vrwkv::data::augment {
namespace {

constexpr std::array<std::uint8_t, 3> kFill{124, 116, 104};

/// Cubic convolution with parameter -1 (Keys 1981) through four values, `t` behind the second. Horner's form in this
/// order, as Pillow has it: its result is cut off, so that the last bit can move a level.
double cubic(double v0, double v1, double v2, double v3, double t) {
  const double linear = -v0 + v2;
  const double square = 2 * (v0 - v1) + v2 - v3;
  const double cube = -v0 + v1 - v2 + v3;
  return v1 + t * (linear + t * (square + t * cube));
}

class Bicubic {
 public:
  explicit Bicubic(const at::Tensor& image)
      : pixels_(image.const_data_ptr<std::uint8_t>()), height_(image.size(0)), width_(image.size(1)) {}

  /// The colour at (x, y); the fill colour outside of the image.
  void sample(double x, double y, std::uint8_t* to) const {
    if (!(x >= 0.0 && x < static_cast<double>(width_) && y >= 0.0 && y < static_cast<double>(height_))) {
      std::ranges::copy(kFill, to);
      return;
    }
    const double left = std::floor(x - 0.5);
    const double top = std::floor(y - 0.5);
    const double dx = x - 0.5 - left;
    const double dy = y - 0.5 - top;
    std::array<int64_t, 4> columns;
    std::array<const std::uint8_t*, 4> rows;
    for (int64_t i = 0; i < 4; ++i) {
      const auto index = static_cast<std::size_t>(i);
      columns[index] = 3 * std::clamp<int64_t>(static_cast<int64_t>(left) - 1 + i, 0, width_ - 1);
      rows[index] = pixels_ + 3 * width_ * std::clamp<int64_t>(static_cast<int64_t>(top) - 1 + i, 0, height_ - 1);
    }
    for (int64_t channel = 0; channel < 3; ++channel) {
      std::array<double, 4> across;
      for (std::size_t i = 0; i < 4; ++i) {
        const std::uint8_t* row = rows[i] + channel;
        across[i] = cubic(row[columns[0]], row[columns[1]], row[columns[2]], row[columns[3]], dx);
      }
      const double value = cubic(across[0], across[1], across[2], across[3], dy);
      to[channel] = static_cast<std::uint8_t>(std::clamp(value, 0.0, 255.0));
    }
  }

 private:
  const std::uint8_t* pixels_;
  int64_t height_;
  int64_t width_;
};

at::Tensor transformed(const at::Tensor& image, const Affine& map) {
  at::Tensor result = at::empty_like(image);
  const Bicubic source(image);
  auto* to = result.mutable_data_ptr<std::uint8_t>();
  for (int64_t row = 0; row < image.size(0); ++row) {
    const double y = static_cast<double>(row) + 0.5;
    for (int64_t column = 0; column < image.size(1); ++column, to += 3) {
      const double x = static_cast<double>(column) + 0.5;
      source.sample(map.a * x + map.b * y + map.c, map.d * x + map.e * y + map.f, to);
    }
  }
  return result;
}

}  // namespace

at::Tensor rotate(const at::Tensor& image, double degrees) {
  check_image("rotate", image);
  check_finite("rotate", degrees);
  return transformed(image, rotation(degrees, image.size(0), image.size(1)));
}

at::Tensor shear_x(const at::Tensor& image, double factor) {
  check_image("shear_x", image);
  check_finite("shear_x", factor);
  return transformed(image, {.b = factor});
}

at::Tensor shear_y(const at::Tensor& image, double factor) {
  check_image("shear_y", image);
  check_finite("shear_y", factor);
  return transformed(image, {.d = factor});
}

at::Tensor translate_x_rel(const at::Tensor& image, double share) {
  check_image("translate_x_rel", image);
  check_finite("translate_x_rel", share);
  return transformed(image, {.c = share * static_cast<double>(image.size(1))});
}

at::Tensor translate_y_rel(const at::Tensor& image, double share) {
  check_image("translate_y_rel", image);
  check_finite("translate_y_rel", share);
  return transformed(image, {.f = share * static_cast<double>(image.size(0))});
}

}  // namespace vrwkv::data::augment
