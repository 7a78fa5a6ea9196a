#include <ATen/ops/empty_like.h>

#include <cmath>
#include <numbers>

#include "data/augment/bicubic.h"
#include "data/augment/blend.h"
#include "data/augment/operations.h"
#include "data/check_image.h"

namespace vrwkv::data::augment {
namespace {

at::Tensor transformed(const at::Tensor& image, const Affine& map) {
  at::Tensor result = at::empty_like(image);
  transform_bicubic(image.const_data_ptr<std::uint8_t>(), image.size(0), image.size(1), map,
                    result.mutable_data_ptr<std::uint8_t>());
  return result;
}

/// Pillow rounds sine and cosine so that quarter turns are exact.
double rounded(double value) { return std::round(value * 1e15) / 1e15; }

}  // namespace

at::Tensor rotate(const at::Tensor& image, double degrees) {
  check_image("rotate", image);
  check_finite("rotate", degrees);
  const double radians = -std::fmod(degrees, 360.0) * std::numbers::pi / 180.0;
  const double cosine = rounded(std::cos(radians));
  const double sine = rounded(std::sin(radians));
  const double middle_x = static_cast<double>(image.size(1)) / 2;
  const double middle_y = static_cast<double>(image.size(0)) / 2;
  return transformed(image, {.a = cosine,
                             .b = sine,
                             .c = cosine * -middle_x + sine * -middle_y + middle_x,
                             .d = -sine,
                             .e = cosine,
                             .f = -sine * -middle_x + cosine * -middle_y + middle_y});
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
