#pragma once

#include <cstdint>

#include "vrwkv/options.h"

namespace vrwkv {

/// Masked autoencoding (He et al., arXiv 2111.06377) with VRWKV blocks.
struct MaeOptions {
  double mask_ratio = 0.75;          ///< Share of the patches that are hidden from the encoder.
  bool norm_pix_loss = false;        ///< Each patch of the target is normalised by its own mean and variance.
  int64_t decoder_embed_dims = 512;  ///< Channels of the decoder's tokens.
  int64_t decoder_depth = 8;         ///< Blocks of the decoder, of the encoder's kind.
  bool double_pos_embed = false;     ///< Add the encoder's position embedding twice, as the public code does.

  bool operator==(const MaeOptions&) const = default;
};

/// A masked autoencoder: its encoder is the backbone, whose norms, layer scale and shift the decoder shares.
struct MaskedAutoencoderOptions {
  VrwkvOptions backbone;
  MaeOptions mae;

  bool operator==(const MaskedAutoencoderOptions&) const = default;
};

/// How many of `tokens` patches the encoder sees: tokens (1 - mask_ratio), rounded down in double precision, as
/// published.
int64_t visible_tokens(int64_t tokens, double mask_ratio);

/// The blocks of the decoder as options of a backbone; drop path is the encoder's alone.
VrwkvOptions decoder_options(const MaskedAutoencoderOptions& options);

/// Throws UsageError that names the option and its value when the options contradict each other or are out of range.
void validate(const MaskedAutoencoderOptions& options);

}  // namespace vrwkv
