#pragma once

#include <cstdint>

#include "data/augment/draw.h"
#include "data/gpu/image_operation.h"

namespace vrwkv::data::gpu {

/// What the pixels of an image of size x size need for `drawn`.
ImageOperation image_operation(const augment::DrawnOperation& drawn, int64_t size);

}  // namespace vrwkv::data::gpu
