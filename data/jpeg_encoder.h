#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace vrwkv::data {

/// Encodes uint8 [H, W, 3] as a baseline JPEG with libjpeg's tables for `quality` (1 … 100) and halved colour
/// resolution (4:2:0), as Pillow's save(quality=…) does. Throws std::invalid_argument for another dtype or shape, a
/// side above 65,500 pixels or a quality out of range.
std::vector<std::uint8_t> encode_jpeg(const at::Tensor& image, int64_t quality);

}  // namespace vrwkv::data
