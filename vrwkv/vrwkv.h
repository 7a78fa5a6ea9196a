#pragma once

#include <torch/nn/cloneable.h>
#include <torch/nn/modules/container/modulelist.h>
#include <torch/nn/modules/normalization.h>
#include <torch/nn/pimpl.h>

#include <string>
#include <vector>

#include "vrwkv/layers/block.h"
#include "vrwkv/layers/block_stack.h"
#include "vrwkv/layers/patch_embed.h"
#include "vrwkv/options.h"

namespace vrwkv {

/// The VRWKV backbone (arXiv 2403.02308). Parameter names are those of the published weights without `backbone.`.
class VrwkvImpl : public torch::nn::Cloneable<VrwkvImpl> {
 public:
  /// Throws UsageError for options that contradict each other.
  explicit VrwkvImpl(VrwkvOptions options);
  void reset() override;
  void pretty_print(std::ostream& stream) const override;

  /// images: [B, in_channels, H, W], normalised; H and W any multiples of the patch size (the position embedding is
  /// resized by bicubic interpolation to another grid than its own). Returns one feature map [B, C, H/p, W/p] for each
  /// of out_indices, by default for the last layer alone; the last layer's map is normalised by the final ln1.
  std::vector<torch::Tensor> forward(const torch::Tensor& images);

  /// The mean over the tokens of the last layer's map, [B, C], in the precision of the weights: what a classifier
  /// reads.
  torch::Tensor pooled(const torch::Tensor& images);

  /// Tokens at `positions` alone, int64 [B, T], each a number in the patch grid and once in its row, in any order: the
  /// network costs what T tokens cost. Returns the last layer's tokens in that order, normalised by the final ln1,
  /// [B, T, C]. With all positions in order these are those of forward(). `pos_embed_times`: how often the position
  /// embedding is added.
  torch::Tensor visible(const torch::Tensor& images, const torch::Tensor& positions, int64_t pos_embed_times = 1);

  /// What `layer` (from 0) hands to Bi-WKV for these images. Throws c10::Error for attention bi_wkv6 and for a layer
  /// that is not there.
  BiWkvInputs bi_wkv_inputs(const torch::Tensor& images, int64_t layer);

  /// Number of layers; layer_id runs from 0 to num_layers() + 1.
  int64_t num_layers() const { return options_.depth; }

  /// For layer-wise learning rates: 0 for pos_embed and patch_embed, l + 1 for block l, num_layers() + 1 for the rest.
  /// `parameter` is a name as named_parameters() gives it.
  int64_t layer_id(const std::string& parameter) const;

  const VrwkvOptions& options() const { return options_; }

  torch::Tensor pos_embed;  ///< [1, (img_size / patch_size)^2, C]
  PatchEmbed patch_embed{nullptr};
  torch::nn::ModuleList layers{nullptr};
  torch::nn::LayerNorm ln1{nullptr};

 private:
  torch::Tensor embed(const torch::Tensor& images, const Tokens& tokens, int64_t pos_embed_times = 1);

  VrwkvOptions options_;
};

TORCH_MODULE(Vrwkv);

/// `pos_embed` [1, h w, C] of the grid `from`, resized to `to`: bicubic, align_corners=false, no antialias, computed in
/// float32 whatever the dtype, as published.
torch::Tensor resize_pos_embed(const torch::Tensor& pos_embed, Grid from, Grid to);

}  // namespace vrwkv
