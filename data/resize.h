#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "data/options.h"

/// Geometry of images uint8 [H, W, 3], contiguous, on the CPU. Every function returns such an image (its argument where
/// nothing changes), runs on the calling thread alone, and throws std::invalid_argument for another dtype or shape.
namespace vrwkv::data {

/// Antialiased resize, within one grey level of Pillow's (two at single pixels of pure noise): first the width, then
/// the height, each rounded, as Pillow did until 12; 13 does some images the other way round. Throws ImageError if the
/// result would have more than kMaxImagePixels pixels.
at::Tensor resize(const at::Tensor& image, int64_t height, int64_t width,
                  Interpolation interpolation = Interpolation::bicubic);

/// resize() so that the short side is `size` and the long side floor(size * long / short), as torchvision rounds.
at::Tensor resize_short_side(const at::Tensor& image, int64_t size,
                             Interpolation interpolation = Interpolation::bicubic);

/// The rectangle of `height` x `width` whose upper left corner is (top, left); pixels outside of the image are 0.
at::Tensor crop(const at::Tensor& image, int64_t top, int64_t left, int64_t height, int64_t width);

/// The size x size rectangle in the middle, with torchvision's rounding; a smaller image is padded with 0.
at::Tensor center_crop(const at::Tensor& image, int64_t size);

/// `padding` pixels of 0 on each side.
at::Tensor pad_zero(const at::Tensor& image, int64_t padding);

/// Mirrored left to right.
at::Tensor hflip(const at::Tensor& image);

}  // namespace vrwkv::data
