#include <ATen/ops/empty_like.h>

#include "data/augment/affine.h"
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
