#pragma once

#include <torch/nn/cloneable.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/pimpl.h>

#include "vrwkv/layers/grid.h"

namespace vrwkv {

struct PatchEmbedOptions {
  int64_t in_channels;
  int64_t embed_dims;
  int64_t patch_size;
};

/// Cuts an image into patches and projects each to a token.
class PatchEmbedImpl : public torch::nn::Cloneable<PatchEmbedImpl> {
 public:
  explicit PatchEmbedImpl(PatchEmbedOptions options);
  void reset() override;

  /// images: [B, in_channels, H, W] with H and W multiples of the patch size; returns [B, T, C], row by row, or of the
  /// patches at `positions`, int64 [B, T], alone. Of all patches, `places`, [1, T, C], are added to the tokens.
  torch::Tensor forward(const torch::Tensor& images, const torch::Tensor& positions = {},
                        const torch::Tensor& places = {});

  /// The patch grid of images [B, in_channels, H, W]. Throws c10::Error when the shape does not fit.
  Grid grid(const torch::Tensor& images) const;

  torch::nn::Conv2d projection{nullptr};

 private:
  PatchEmbedOptions options_;
};

TORCH_MODULE(PatchEmbed);

}  // namespace vrwkv
