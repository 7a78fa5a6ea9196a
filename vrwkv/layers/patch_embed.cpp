#include "vrwkv/layers/patch_embed.h"

#include <torch/nn/options/conv.h>

#include "ops/patch_embed.h"
#include "ops/patch_rows.h"
#include "vrwkv/autocast.h"

namespace vrwkv {

PatchEmbedImpl::PatchEmbedImpl(PatchEmbedOptions options) : options_(options) { reset(); }

void PatchEmbedImpl::reset() {
  const auto conv = torch::nn::Conv2dOptions(options_.in_channels, options_.embed_dims, options_.patch_size)
                        .stride(options_.patch_size);
  projection = register_module("projection", torch::nn::Conv2d(conv));
}

Grid PatchEmbedImpl::grid(const torch::Tensor& images) const {
  TORCH_CHECK(images.dim() == 4 && images.size(1) == options_.in_channels, "vrwkv: images must be [B, ",
              options_.in_channels, ", H, W], got ", images.sizes());
  const int64_t height = images.size(2), width = images.size(3), patch = options_.patch_size;
  TORCH_CHECK(height >= patch && width >= patch && height % patch == 0 && width % patch == 0,
              "vrwkv: image height and width must be multiples of the patch size ", patch, ", got ", height, " x ",
              width, "; resize or crop to ", std::max(patch, height / patch * patch), " x ",
              std::max(patch, width / patch * patch));
  return {height / patch, width / patch};
}

torch::Tensor PatchEmbedImpl::forward(const torch::Tensor& images, const torch::Tensor& positions,
                                      const torch::Tensor& places) {
  grid(images);  // Checks the shape.
  const auto dtype = autocast_dtype(images.device().type()).value_or(images.scalar_type());
  if (places.defined()) return ops::patch_embed(images, projection->weight, projection->bias, places, dtype);
  torch::Tensor rows = ops::patch_rows(images, options_.patch_size, dtype);
  if (positions.defined()) rows = rows.gather(1, positions.unsqueeze(2).expand({-1, -1, rows.size(2)}));
  return torch::linear(rows, projection->weight.flatten(1), projection->bias);
}

}  // namespace vrwkv
