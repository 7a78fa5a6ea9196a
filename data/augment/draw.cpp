#include "data/augment/draw.h"

#include <algorithm>
#include <array>
#include <utility>

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

  /// The whole part of share * full.
  double part(double full) const { return static_cast<double>(static_cast<int64_t>(share * full)); }

  /// part(full), or what it lacks to full when more of it means less change.
  double keep(double full) const { return increasing ? full - part(full) : part(full); }
};

struct Choice {
  OperationKind kind;
  double (*argument)(const Strength&);
};

double none(const Strength& /*strength*/) { return 0; }
double factor(const Strength& strength) { return strength.factor(); }
double shear(const Strength& strength) { return strength.signed_part(0.3); }
double translation(const Strength& strength) { return strength.signed_part(0.45); }

/// timm's list and ranges; those of the published recipe (mmpretrain's `timm_increasing`) are the same.
constexpr std::array<Choice, 15> kChoices{{
    {OperationKind::auto_contrast, none},
    {OperationKind::equalize, none},
    {OperationKind::invert, none},
    {OperationKind::rotate, [](const Strength& strength) { return strength.signed_part(30.0); }},
    {OperationKind::posterize, [](const Strength& strength) { return strength.keep(4); }},
    {OperationKind::solarize, [](const Strength& strength) { return strength.keep(256); }},
    {OperationKind::solarize_add, [](const Strength& strength) { return strength.part(110); }},
    {OperationKind::color, factor},
    {OperationKind::contrast, factor},
    {OperationKind::brightness, factor},
    {OperationKind::sharpness, factor},
    {OperationKind::shear_x, shear},
    {OperationKind::shear_y, shear},
    {OperationKind::translate_x_rel, translation},
    {OperationKind::translate_y_rel, translation},
}};

}  // namespace

std::vector<DrawnOperation> draw_rand_augment(const RandAugmentOptions& options, Generator& generator) {
  std::vector<DrawnOperation> drawn;
  for (int64_t i = 0; i < options.num_ops; ++i) {
    const Choice& choice = kChoices[static_cast<std::size_t>(generator.integer(std::ssize(kChoices)))];
    if (generator.uniform() >= options.prob) {
      continue;
    }
    const double magnitude = std::clamp(options.magnitude + options.magnitude_std * generator.normal(), 0.0, 10.0);
    drawn.push_back({choice.kind, choice.argument({magnitude / 10.0, options.increasing, generator})});
  }
  return drawn;
}

DrawnOperation draw_three_augment(Generator& generator) {
  switch (generator.integer(3)) {
    case 0:
      return {OperationKind::grayscale};
    case 1:
      return {OperationKind::solarize, 128};
    default:
      return {OperationKind::gaussian_blur, generator.uniform(0.1, 2.0)};
  }
}

std::vector<DrawnOperation> draw_color_jitter(double strength, Generator& generator) {
  std::array order{OperationKind::brightness, OperationKind::contrast, OperationKind::color};
  std::swap(order[2], order[static_cast<std::size_t>(generator.integer(3))]);
  std::swap(order[1], order[static_cast<std::size_t>(generator.integer(2))]);
  std::vector<DrawnOperation> drawn;
  for (const OperationKind kind : order) {
    drawn.push_back({kind, generator.uniform(std::max(0.0, 1.0 - strength), 1.0 + strength)});
  }
  return drawn;
}

std::vector<DrawnOperation> draw_augmentation(const TrainTransformOptions& options, Generator& generator) {
  std::vector<DrawnOperation> drawn = draw_rand_augment(options.rand_augment, generator);
  if (options.three_augment) {
    drawn.push_back(draw_three_augment(generator));
  }
  if (options.color_jitter > 0.0) {
    const std::vector<DrawnOperation> jitter = draw_color_jitter(options.color_jitter, generator);
    drawn.insert(drawn.end(), jitter.begin(), jitter.end());
  }
  return drawn;
}

}  // namespace vrwkv::data::augment
