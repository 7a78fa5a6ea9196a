#include "vrwkv/mae_options.h"

#include "vrwkv/require_option.h"

namespace vrwkv {

int64_t visible_tokens(int64_t tokens, double mask_ratio) {
  return static_cast<int64_t>(static_cast<double>(tokens) * (1 - mask_ratio));
}

VrwkvOptions decoder_options(const MaskedAutoencoderOptions& options) {
  VrwkvOptions decoder = options.backbone;
  decoder.embed_dims = options.mae.decoder_embed_dims;
  decoder.depth = options.mae.decoder_depth;
  decoder.drop_rate = 0;
  decoder.drop_path_rate = 0;
  decoder.out_indices = {};
  return decoder;
}

void validate(const MaskedAutoencoderOptions& options) {
  validate(options.backbone);
  const MaeOptions& mae = options.mae;
  require_option(mae.mask_ratio > 0 && mae.mask_ratio < 1, "mae.mask_ratio", mae.mask_ratio, "in (0, 1)");
  require_option(mae.decoder_depth >= 1, "mae.decoder_depth", mae.decoder_depth, ">= 1");
  // Sine and cosine of the row and of the column take a quarter of the channels each.
  require_option(options.backbone.embed_dims % 4 == 0, "embed_dims", options.backbone.embed_dims,
                 "a multiple of 4 with masked autoencoding");
  require_option(mae.decoder_embed_dims >= 4 && mae.decoder_embed_dims % 4 == 0, "mae.decoder_embed_dims",
                 mae.decoder_embed_dims, "a multiple of 4");
  const int64_t side = options.backbone.img_size / options.backbone.patch_size;
  const int64_t visible = visible_tokens(side * side, mae.mask_ratio);
  require_option(visible >= 1 && visible < side * side, "mae.mask_ratio", mae.mask_ratio,
                 "such that some of the " + std::to_string(side * side) + " patches are visible and some are not");
  if (options.backbone.attention == Attention::bi_wkv6) validate(decoder_options(options));
}

}  // namespace vrwkv
