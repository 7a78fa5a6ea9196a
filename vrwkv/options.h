#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace vrwkv {

/// Start of the decay, first and mix parameters. `fancy` is the published default: values that vary with channel and
/// layer; `local` sets all to 1; `global` sets decay and first to 0 and the mixes to 0.5.
enum class InitMode { fancy, local, global };

/// Start of the linear weights. `trunc_normal` (std 0.02) for tiny, small and base; `zero_orthogonal` for large:
/// att.key, att.receptance, att.output, ffn.value and ffn.receptance at zero, att.value and ffn.key orthogonal.
enum class LinearInit { trunc_normal, zero_orthogonal };

/// `linear`: Linear(C, classes), keys head.fc.*. `mlp_tanh`: Linear(C, 3C) - Tanh - Linear(3C, classes), keys head.0.*,
/// head.2.*.
enum class HeadKind { linear, mlp_tanh };

/// The formula of Bi-WKV: the paper's, or that of the public kernel, which the published weights were trained with
/// (ops/bi_wkv_published.h). `automatic` is the paper's, except where published weights are evaluated.
enum class WkvFormula { automatic, paper, published };

/// The attention of the blocks: `bi_wkv` is VRWKV's (arXiv 2403.02308), `bi_wkv6` VRWKV6's, with the decays and token
/// mixes of RWKV-6 (arXiv 2404.05892), in heads of 64 channels within which Q-Shift works too.
enum class Attention { bi_wkv, bi_wkv6 };

/// What a token reads of others before its mixes. `q_shift`: a quarter of the channels from each neighbour in the grid.
/// By the order of the sequence alone: `single_shift`, all channels from the token before; `bidirectional`, the first
/// half of them from the token before, the second half from the one behind. What is not there reads 0.
enum class Shift { q_shift, single_shift, bidirectional };

/// The VRWKV backbone (arXiv 2403.02308). Names are those of the published configurations.
struct VrwkvOptions {
  int64_t img_size = 224;    ///< Side in pixels of the square input that pos_embed is made for.
  int64_t patch_size = 16;   ///< Side in pixels of a patch; input sides must be multiples of it.
  int64_t in_channels = 3;   ///< Channels of the input image.
  int64_t embed_dims = 192;  ///< C, channels of a token.
  int64_t depth = 12;        ///< Number of blocks.
  int64_t hidden_rate = 4;   ///< Hidden channels of the channel mix over C.
  Attention attention = Attention::bi_wkv;
  Shift shift = Shift::q_shift;
  bool post_norm = false;             ///< Normalise the output of each mix instead of its input.
  std::optional<double> init_values;  ///< Start of the layer scale gamma1, gamma2; without it there is none.
  bool key_norm = false;              ///< LayerNorm after Bi-WKV and on the channel mix's hidden values.
  WkvFormula wkv = WkvFormula::automatic;
  double drop_rate = 0.0;       ///< Dropout after the position embedding.
  double drop_path_rate = 0.0;  ///< Stochastic depth of the last block; rises linearly from 0.
  InitMode init_mode = InitMode::fancy;
  LinearInit linear_init = LinearInit::trunc_normal;
  bool with_cp = false;              ///< Activation checkpointing: recompute each block in the backward pass.
  std::vector<int64_t> out_indices;  ///< Layers whose feature maps `forward` returns; empty: the last.

  bool operator==(const VrwkvOptions&) const = default;
};

/// Which weights of a file: the trained ones, or their moving average (tensors `ema.*` of our checkpoints).
enum class WeightSet { raw, ema };

struct ClassifierOptions {
  VrwkvOptions backbone;
  int64_t num_classes = 1000;
  HeadKind head = HeadKind::linear;

  bool operator==(const ClassifierOptions&) const = default;
};

/// The published variants: "tiny", "small", "base" and "large" (the last at 384 px with its MLP head), and
/// "vrwkv6_tiny", "vrwkv6_small" and "vrwkv6_base".
/// Throws UsageError for another name.
ClassifierOptions variant_options(const std::string& name);

/// Throws UsageError that names the option and its value when the options contradict each other or are out of range.
void validate(const VrwkvOptions& backbone);
void validate(const ClassifierOptions& options);

}  // namespace vrwkv
