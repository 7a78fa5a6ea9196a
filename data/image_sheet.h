#pragma once

#include <ATen/core/Tensor.h>

namespace vrwkv::data {

/// Images side by side in one: `cells` uint8 [rows, columns, H, W, 3] with a white margin around each, uint8 [., ., 3].
at::Tensor image_sheet(const at::Tensor& cells);

}  // namespace vrwkv::data
