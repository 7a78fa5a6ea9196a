#include "data/augment/policies.h"

#include <algorithm>
#include <array>
#include <utility>

#include "data/augment/operations.h"

namespace vrwkv::data::augment {
namespace {

/// How strong an operation is: a share 0 ... 1 of the full strength, and how that is read.
struct Strength {
  double share;
  bool increasing;
  Generator& generator;

  /// share * full, its sign drawn.
  double signed_part(double full) const {
    const double value = share * full;
    return generator.uniform() < 0.5 ? -value : value;
  }

  /// A factor of color, contrast, brightness and sharpness; 1 changes nothing.
  double factor() const { return increasing ? std::max(0.1, 1.0 + signed_part(0.9)) : 0.1 + share * 1.8; }

  /// The whole part of share * full, or what it lacks to full when more of it means less change.
  int64_t keep(int64_t full) const {
    const auto part = static_cast<int64_t>(share * static_cast<double>(full));
    return increasing ? full - part : part;
  }
};

using Operation = at::Tensor (*)(const at::Tensor&, const Strength&);

/// timm's list and ranges; those of the published recipe (mmpretrain's `timm_increasing`) are the same.
constexpr std::array<Operation, 15> kOperations{
    [](const at::Tensor& image, const Strength&) { return auto_contrast(image); },
    [](const at::Tensor& image, const Strength&) { return equalize(image); },
    [](const at::Tensor& image, const Strength&) { return invert(image); },
    [](const at::Tensor& image, const Strength& strength) { return rotate(image, strength.signed_part(30.0)); },
    [](const at::Tensor& image, const Strength& strength) { return posterize(image, strength.keep(4)); },
    [](const at::Tensor& image, const Strength& strength) { return solarize(image, strength.keep(256)); },
    [](const at::Tensor& image, const Strength& strength) {
      return solarize_add(image, static_cast<int64_t>(strength.share * 110.0));
    },
    [](const at::Tensor& image, const Strength& strength) { return color(image, strength.factor()); },
    [](const at::Tensor& image, const Strength& strength) { return contrast(image, strength.factor()); },
    [](const at::Tensor& image, const Strength& strength) { return brightness(image, strength.factor()); },
    [](const at::Tensor& image, const Strength& strength) { return sharpness(image, strength.factor()); },
    [](const at::Tensor& image, const Strength& strength) { return shear_x(image, strength.signed_part(0.3)); },
    [](const at::Tensor& image, const Strength& strength) { return shear_y(image, strength.signed_part(0.3)); },
    [](const at::Tensor& image, const Strength& strength) {
      return translate_x_rel(image, strength.signed_part(0.45));
    },
    [](const at::Tensor& image, const Strength& strength) {
      return translate_y_rel(image, strength.signed_part(0.45));
    },
};

}  // namespace

at::Tensor rand_augment(const at::Tensor& image, const RandAugmentOptions& options, Generator& generator) {
  at::Tensor result = image;
  for (int64_t i = 0; i < options.num_ops; ++i) {
    const auto choice = static_cast<std::size_t>(generator.integer(std::ssize(kOperations)));
    if (generator.uniform() >= options.prob) {
      continue;
    }
    const double magnitude = std::clamp(options.magnitude + options.magnitude_std * generator.normal(), 0.0, 10.0);
    result = kOperations[choice](result, {magnitude / 10.0, options.increasing, generator});
  }
  return result;
}

at::Tensor three_augment(const at::Tensor& image, Generator& generator) {
  switch (generator.integer(3)) {
    case 0:
      return grayscale(image);
    case 1:
      return solarize(image, 128);
    default:
      return gaussian_blur(image, generator.uniform(0.1, 2.0));
  }
}

at::Tensor color_jitter(const at::Tensor& image, double strength, Generator& generator) {
  std::array<at::Tensor (*)(const at::Tensor&, double), 3> order{brightness, contrast, color};
  std::swap(order[2], order[static_cast<std::size_t>(generator.integer(3))]);
  std::swap(order[1], order[static_cast<std::size_t>(generator.integer(2))]);
  at::Tensor result = image;
  for (const auto operation : order) {
    result = operation(result, generator.uniform(std::max(0.0, 1.0 - strength), 1.0 + strength));
  }
  return result;
}

}  // namespace vrwkv::data::augment
