#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "data/options.h"
#include "data/random.h"
#include "data/transforms.h"

namespace vrwkv::data {

/// The rectangles to erase of an image of height x width; none with probability 1 - options.prob. As in timm: each has
/// up to ten draws of an area (its part of a share of the image within `area`) and of an aspect (height / width,
/// log-uniform within `ratio`), and must be smaller than the image in both directions.
std::vector<Box> erasing_boxes(int64_t height, int64_t width, const ErasingOptions& options, Generator& generator);

/// Fills `boxes[i]` of image i, in place: images floating point [B, C, H, W], normalised, on any device. The noise
/// comes from a generator of that device seeded with `noise_seed`. Throws c10::Error for other shapes.
void erase(const at::Tensor& images, const std::vector<std::vector<Box>>& boxes, ErasingFill fill,
           std::uint64_t noise_seed);

}  // namespace vrwkv::data
