#include "data/augment/named.h"

#include <array>

#include "data/augment/operations.h"

namespace vrwkv::data::augment {
namespace {

template <at::Tensor (*function)(const at::Tensor&)>
at::Tensor plain(const at::Tensor& image, double /*argument*/) {
  return function(image);
}

template <at::Tensor (*function)(const at::Tensor&, int64_t)>
at::Tensor whole(const at::Tensor& image, double argument) {
  return function(image, static_cast<int64_t>(argument));
}

constexpr std::array<NamedOperation, 17> kOperations{{
    {"invert", Argument::none, plain<invert>},
    {"posterize", Argument::whole, whole<posterize>},
    {"solarize", Argument::whole, whole<solarize>},
    {"solarize_add", Argument::whole, whole<solarize_add>},
    {"auto_contrast", Argument::none, plain<auto_contrast>},
    {"equalize", Argument::none, plain<equalize>},
    {"grayscale", Argument::none, plain<grayscale>},
    {"color", Argument::real, color},
    {"contrast", Argument::real, contrast},
    {"brightness", Argument::real, brightness},
    {"sharpness", Argument::real, sharpness},
    {"gaussian_blur", Argument::real, gaussian_blur},
    {"rotate", Argument::real, rotate},
    {"shear_x", Argument::real, shear_x},
    {"shear_y", Argument::real, shear_y},
    {"translate_x_rel", Argument::real, translate_x_rel},
    {"translate_y_rel", Argument::real, translate_y_rel},
}};

}  // namespace

std::span<const NamedOperation> named_operations() { return kOperations; }

}  // namespace vrwkv::data::augment
