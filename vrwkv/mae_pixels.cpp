#include "vrwkv/mae_pixels.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

namespace vrwkv {

torch::Tensor patch_pixels(const torch::Tensor& images, int64_t patch_size) {
  TORCH_CHECK(images.dim() == 4 && images.size(2) % patch_size == 0 && images.size(3) % patch_size == 0,
              "patch_pixels: images must be [B, C, H, W] with sides that are multiples of ", patch_size, ", got ",
              images.sizes());
  return images.unflatten(2, {-1, patch_size})
      .unflatten(4, {-1, patch_size})
      .permute({0, 2, 4, 3, 5, 1})
      .flatten(3)
      .flatten(1, 2);
}

torch::Tensor image_of_patches(const torch::Tensor& patches, int64_t patch_size, Grid grid) {
  return patches.unflatten(1, {grid.height, grid.width})
      .unflatten(3, {patch_size, patch_size, -1})
      .permute({0, 5, 1, 3, 2, 4})
      .flatten(4)
      .flatten(2, 3);
}

PatchScale patch_scale(const torch::Tensor& patches) {
  constexpr double kLeastVariance = 1e-6;
  const auto [variance, mean] = at::var_mean(patches, {2}, /*unbiased=*/true, /*keepdim=*/true);
  return {mean, (variance + kLeastVariance).sqrt()};
}

torch::Tensor reconstruction_error(const torch::Tensor& patches, const torch::Tensor& prediction,
                                   const torch::Tensor& mask, bool norm_pix) {
  const auto wide = patches.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  torch::Tensor target = patches.to(wide);
  if (norm_pix) {
    const auto [mean, deviation] = patch_scale(target);
    target = (target - mean) / deviation;
  }
  const torch::Tensor error = (prediction.to(wide) - target).square().mean(2);
  const torch::Tensor masked = mask.to(wide);
  return (error * masked).sum(1) / masked.sum(1);
}

}  // namespace vrwkv
