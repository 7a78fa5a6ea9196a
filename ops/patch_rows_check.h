#pragma once

#include <ATen/core/Tensor.h>

namespace vrwkv::ops {

void check_patch_rows(const at::Tensor& images, int64_t patch, at::ScalarType dtype);

/// By LibTorch's operations, for every device and for gradients.
at::Tensor patch_rows_composite(const at::Tensor& images, int64_t patch, at::ScalarType dtype);

}  // namespace vrwkv::ops
