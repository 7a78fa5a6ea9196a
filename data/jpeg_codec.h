#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>

namespace vrwkv::data {

/// The JPEG half of decode_image: uint8 [H, W, 3]. Throws ImageError.
at::Tensor decode_jpeg(std::span<const std::uint8_t> bytes, int64_t max_pixels);

}  // namespace vrwkv::data
