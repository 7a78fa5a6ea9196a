#pragma once

#include <ATen/core/Tensor.h>

#include <span>

#include "data/augment/draw.h"
#include "data/options.h"
#include "data/random.h"

/// Which operations an image gets: functions of (image, options, generator). Images are uint8 [H, W, 3] as in
/// operations.h, which throws for others.
namespace vrwkv::data::augment {

/// One operation after the other; the image itself without any.
at::Tensor apply_operations(const at::Tensor& image, std::span<const DrawnOperation> operations);

/// RandAugment as timm's `rand-m{magnitude}-n{num_ops}-mstd{magnitude_std}-inc1` has it: `num_ops` times one of 15
/// operations, each applied with `prob` at a magnitude drawn from N(magnitude, magnitude_std), limited to 0 ... 10.
at::Tensor rand_augment(const at::Tensor& image, const RandAugmentOptions& options, Generator& generator);

/// 3-Augment (Touvron et al. 2022, DeiT III): grayscale, solarize from 128 on, or gaussian_blur with a radius of 0.1 to
/// 2 pixels; one of them, equally likely.
at::Tensor three_augment(const at::Tensor& image, Generator& generator);

/// Brightness, contrast and saturation in random order, each by a factor uniform within max(0, 1 - strength) and
/// 1 + strength (torchvision's ColorJitter without hue).
at::Tensor color_jitter(const at::Tensor& image, double strength, Generator& generator);

}  // namespace vrwkv::data::augment
