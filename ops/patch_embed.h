#pragma once

#include <ATen/core/Tensor.h>

namespace vrwkv::ops {

/// Images to tokens: the convolution of patches that do not overlap, and the position embedding.
///
/// @param images  [B, C, H, W] of any floating point dtype.
/// @param weight  [D, C, P, P]: floating point, like the others.
/// @param bias    [D]
/// @param places  [1, H/P * W/P, D]
/// @param dtype   Of the product and the result: floating point.
/// @return        [B, H/P * W/P, D], patches row by row.
///
/// It is patch_rows(), linear() and add_places(). On a GPU of compute capability 9.0 one kernel takes patches of 16 x
/// 16 pixels in float32 to tokens of 192 channels in bfloat16, unless the images require a gradient. Once
/// differentiable there.
at::Tensor patch_embed(const at::Tensor& images, const at::Tensor& weight, const at::Tensor& bias,
                       const at::Tensor& places, at::ScalarType dtype);

}  // namespace vrwkv::ops
