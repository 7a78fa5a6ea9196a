#include "vrwkv/masked_autoencoder.h"

#include <ATen/Functions.h>
#include <torch/nn/init.h>

#include "vrwkv/init.h"
#include "vrwkv/layers/layer_norm.h"
#include "vrwkv/mae_pixels.h"
#include "vrwkv/sincos_pos_embed.h"

namespace vrwkv {
namespace {

constexpr double kMaskTokenStd = 0.02;

}  // namespace

MaskedAutoencoderImpl::MaskedAutoencoderImpl(MaskedAutoencoderOptions options) : options_(std::move(options)) {
  validate(options_);
  reset();
}

void MaskedAutoencoderImpl::reset() {
  const VrwkvOptions& backbone = options_.backbone;
  const VrwkvOptions decoder = decoder_options(options_);
  const int64_t side = backbone.img_size / backbone.patch_size;
  encoder = Vrwkv(backbone);
  const torch::NoGradGuard no_grad;
  encoder->pos_embed.copy_(sincos_pos_embed({side, side}, backbone.embed_dims));
  register_parameter("pos_embed", encoder->pos_embed);
  register_module("patch_embed", encoder->patch_embed);
  register_module("blocks", encoder->layers);
  register_module("ln1", encoder->ln1);

  decoder_embed = register_module("decoder_embed", torch::nn::Linear(backbone.embed_dims, decoder.embed_dims));
  mask_token = register_parameter("mask_token", torch::zeros({1, 1, decoder.embed_dims}));
  torch::nn::init::normal_(mask_token, 0.0, kMaskTokenStd);
  decoder_pos_embed = register_parameter("decoder_pos_embed", sincos_pos_embed({side, side}, decoder.embed_dims));
  decoder_blocks = register_module("decoder_blocks", make_blocks(decoder));
  ln2 = register_module("ln2", torch::nn::LayerNorm(layer_norm_options(decoder.embed_dims)));
  const int64_t pixels = backbone.patch_size * backbone.patch_size * backbone.in_channels;
  decoder_pred = register_module("decoder_pred", torch::nn::Linear(decoder.embed_dims, pixels));
  for (auto* linear : {&decoder_embed, &decoder_pred}) {
    torch::nn::init::xavier_uniform_((*linear)->weight);
    torch::nn::init::zeros_((*linear)->bias);
  }
}

void MaskedAutoencoderImpl::pretty_print(std::ostream& stream) const {
  stream << "vrwkv::MaskedAutoencoder(mask_ratio=" << options_.mae.mask_ratio
         << ", decoder_embed_dims=" << options_.mae.decoder_embed_dims
         << ", decoder_depth=" << options_.mae.decoder_depth << ")";
}

torch::Tensor MaskedAutoencoderImpl::decode(const torch::Tensor& latent, const torch::Tensor& restore, Grid grid) {
  const torch::Tensor visible = decoder_embed(latent);
  const int64_t masked = grid.tokens() - visible.size(1);
  const torch::Tensor filler = mask_token.to(visible.scalar_type()).expand({visible.size(0), masked, -1});
  const torch::Tensor shuffled = at::cat({visible, filler}, 1);
  const torch::Tensor x = shuffled.gather(1, restore.unsqueeze(2).expand_as(shuffled));
  const int64_t side = options_.backbone.img_size / options_.backbone.patch_size;
  const torch::Tensor places = resize_pos_embed(decoder_pos_embed, {side, side}, grid).to(x.scalar_type());
  const Stream last = run_blocks(*decoder_blocks, decoder_options(options_), x + places, grid);
  return decoder_pred(final_norm(last, *ln2));
}

Reconstruction MaskedAutoencoderImpl::forward(const torch::Tensor& images, const torch::Tensor& noise) {
  const Grid patches = grid(images);
  TORCH_CHECK(noise.dim() == 2 && noise.size(0) == images.size(0) && noise.size(1) == patches.tokens(),
              "vrwkv: noise must be [", images.size(0), ", ", patches.tokens(), "], got ", noise.sizes());
  const Masking masking = random_masking(noise, visible_tokens(patches.tokens(), options_.mae.mask_ratio));
  const torch::Tensor latent = encoder->visible(images, masking.kept, options_.mae.double_pos_embed ? 2 : 1);
  const torch::Tensor prediction = decode(latent, masking.restore, patches);
  const torch::Tensor pixels = patch_pixels(images, options_.backbone.patch_size);
  return {reconstruction_error(pixels, prediction, masking.mask, options_.mae.norm_pix_loss), prediction, masking.mask};
}

}  // namespace vrwkv
