#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>

#include "data/box.h"

namespace vrwkv::data {

/// The JPEG half of decode_image: uint8 [H, W, 3]. Throws ImageError.
at::Tensor decode_jpeg(std::span<const std::uint8_t> bytes, int64_t max_pixels);

/// Whether the bytes begin as a JPEG.
bool is_jpeg(std::span<const std::uint8_t> bytes);

/// The rectangle of the whole image, from its header alone. Throws ImageError as decode_jpeg does.
Box jpeg_size(std::span<const std::uint8_t> bytes, int64_t max_pixels);

/// crop() of decode_jpeg(), for a `box` within the image: rows below it are not read, blocks around it are not
/// transformed, nor even read where cut_jpeg() can leave them out. Throws ImageError, and std::invalid_argument for
/// another box.
///
/// `reduction` 2, 4 or 8, of which the box's sides and corner are multiples: a pixel for each square of so many, from
/// the lower frequencies of the blocks alone (libjpeg's scaled decoding), which is quicker.
at::Tensor decode_jpeg_part(std::span<const std::uint8_t> bytes, const Box& box, int64_t reduction = 1);

}  // namespace vrwkv::data
