#pragma once

#include <cstdint>

#include "data/augment/affine.h"

namespace vrwkv::data::augment {

/// Pillow's Image.transform(AFFINE, BICUBIC) of `from`, height x width x 3 levels, to `to`, which has the same shape:
/// cubic convolution with parameter -1 (Keys 1981) in float64, the fraction dropped; (124, 116, 104), ImageNet's mean
/// colour, where the place lies outside of the image. Equal to Pillow's on every pixel.
void transform_bicubic(const std::uint8_t* from, int64_t height, int64_t width, const Affine& map, std::uint8_t* to);

}  // namespace vrwkv::data::augment
