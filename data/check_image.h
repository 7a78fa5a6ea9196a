#pragma once

#include <ATen/core/Tensor.h>

namespace vrwkv::data {

/// Throws std::invalid_argument, which names `function`, unless `image` is uint8 [H, W, 3], not empty, contiguous and
/// on the CPU.
void check_image(const char* function, const at::Tensor& image);

}  // namespace vrwkv::data
