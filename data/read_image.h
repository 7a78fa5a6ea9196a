#pragma once

#include <ATen/core/Tensor.h>

#include <string>

namespace vrwkv::data {

/// The image of a JPEG or PNG file, uint8 [H, W, 3] as decode_image gives it. Throws ImageError, which names the file,
/// for one that is not there, cannot be read or is no such image.
at::Tensor read_image(const std::string& path);

}  // namespace vrwkv::data
