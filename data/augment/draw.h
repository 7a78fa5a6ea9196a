#pragma once

#include <vector>

#include "data/augment/operation_kind.h"
#include "data/options.h"
#include "data/random.h"

/// What the policies of policies.h draw for an image, apart from any pixels: the same operations whether the CPU or a
/// device carries them out.
namespace vrwkv::data::augment {

/// An operation and what it takes beside the image (operations.h); a whole number where that is one.
struct DrawnOperation {
  OperationKind kind = OperationKind::invert;
  double argument = 0;

  bool operator==(const DrawnOperation&) const = default;
};

/// The operations of rand_augment() that are applied, in their order.
std::vector<DrawnOperation> draw_rand_augment(const RandAugmentOptions& options, Generator& generator);

/// The operation of three_augment().
DrawnOperation draw_three_augment(Generator& generator);

/// The three operations of color_jitter().
std::vector<DrawnOperation> draw_color_jitter(double strength, Generator& generator);

/// All that `options` asks for: RandAugment, 3-Augment and color jitter, those that are on.
std::vector<DrawnOperation> draw_augmentation(const TrainTransformOptions& options, Generator& generator);

}  // namespace vrwkv::data::augment
