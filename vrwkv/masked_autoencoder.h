#pragma once

#include <torch/nn/cloneable.h>
#include <torch/nn/modules/container/modulelist.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/normalization.h>
#include <torch/nn/pimpl.h>

#include "vrwkv/mae_options.h"
#include "vrwkv/random_masking.h"
#include "vrwkv/vrwkv.h"

namespace vrwkv {

/// What a masked autoencoder finds.
struct Reconstruction {
  torch::Tensor error;       ///< [B] of each image, see reconstruction_error(); their mean is the loss.
  torch::Tensor prediction;  ///< [B, T, p p in_channels] the pixels of all patches, normalised ones with norm_pix_loss.
  torch::Tensor mask;        ///< float32 [B, T], 1 where the encoder did not see the patch.
};

/// Masked autoencoding (He et al., arXiv 2111.06377): a VRWKV backbone sees some patches, in shuffled order, and a
/// narrower one predicts the pixels of the others. Parameter names are the published ones: pos_embed, patch_embed.*,
/// blocks.*, ln1.* of the encoder; decoder_embed.*, mask_token, decoder_pos_embed, decoder_blocks.*, ln2.*,
/// decoder_pred.* of the decoder.
class MaskedAutoencoderImpl : public torch::nn::Cloneable<MaskedAutoencoderImpl> {
 public:
  /// Throws UsageError for options that contradict each other.
  explicit MaskedAutoencoderImpl(MaskedAutoencoderOptions options);
  void reset() override;
  void pretty_print(std::ostream& stream) const override;

  /// images: [B, in_channels, H, W], normalised; H and W any multiples of the patch size. noise: [B, T] for their T
  /// patches, see random_masking().
  Reconstruction forward(const torch::Tensor& images, const torch::Tensor& noise);

  /// The patch grid of images [B, in_channels, H, W].
  Grid grid(const torch::Tensor& images) const { return encoder->patch_embed->grid(images); }

  const MaskedAutoencoderOptions& options() const { return options_; }

  /// Its parameters are registered here under their published names, not as a module of its own.
  Vrwkv encoder{nullptr};
  torch::nn::Linear decoder_embed{nullptr}, decoder_pred{nullptr};
  torch::Tensor mask_token;         ///< [1, 1, decoder_embed_dims]
  torch::Tensor decoder_pos_embed;  ///< [1, (img_size / patch_size)^2, decoder_embed_dims]
  torch::nn::ModuleList decoder_blocks{nullptr};
  torch::nn::LayerNorm ln2{nullptr};

 private:
  torch::Tensor decode(const torch::Tensor& latent, const torch::Tensor& restore, Grid grid);

  MaskedAutoencoderOptions options_;
};

TORCH_MODULE(MaskedAutoencoder);

}  // namespace vrwkv
