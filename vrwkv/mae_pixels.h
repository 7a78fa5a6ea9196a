#pragma once

#include <torch/types.h>

#include "vrwkv/layers/grid.h"

namespace vrwkv {

/// Images [B, C, H, W] as the pixels of their patches, [B, T, p p C]: row by row, and within a patch, too, with the
/// channels last.
torch::Tensor patch_pixels(const torch::Tensor& images, int64_t patch_size);

/// The images [B, C, H, W] of the patches [B, T, p p C] of `grid`.
torch::Tensor image_of_patches(const torch::Tensor& patches, int64_t patch_size, Grid grid);

/// Mean and standard deviation (the root of the unbiased variance + 1e-6) of each patch [B, T, 1].
struct PatchScale {
  torch::Tensor mean, deviation;
};

PatchScale patch_scale(const torch::Tensor& patches);

/// The squared error of each image, [B]: the mean over the pixels of a patch, then over the patches where `mask` [B, T]
/// is 1. `patches` and `prediction`: [B, T, p p C]. With `norm_pix`, the target is the patch normalised by its own
/// scale. In float32, or float64 for float64 patches.
torch::Tensor reconstruction_error(const torch::Tensor& patches, const torch::Tensor& prediction,
                                   const torch::Tensor& mask, bool norm_pix);

}  // namespace vrwkv
