#pragma once

#include <ATen/core/Tensor.h>

namespace vrwkv::ops {

/// Cuts images into patches, which do not overlap, so that a convolution over them is a matrix product.
///
/// @param images  [B, C, H, W] of any floating point dtype.
/// @param patch   P, of which H and W are multiples.
/// @param dtype   Of the result: floating point.
/// @return        [B, H/P * W/P, C * P * P], patches row by row; of a patch channel by channel, each row by row.
///
/// On CUDA one kernel cuts and casts, if P is a multiple of 8, and images that require no gradient are contiguous; the
/// rest is composed of LibTorch's operations. Throws c10::Error for other shapes.
at::Tensor patch_rows(const at::Tensor& images, int64_t patch, at::ScalarType dtype);

}  // namespace vrwkv::ops
