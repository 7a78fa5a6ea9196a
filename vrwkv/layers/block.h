#pragma once

#include <torch/nn/cloneable.h>
#include <torch/nn/modules/normalization.h>
#include <torch/nn/pimpl.h>

#include "ops/residual_add.h"
#include "vrwkv/layers/channel_mix.h"
#include "vrwkv/layers/spatial_mix.h"
#include "vrwkv/layers/spatial_mix6.h"
#include "vrwkv/layers/stream.h"
#include "vrwkv/layers/tokens.h"
#include "vrwkv/options.h"

namespace vrwkv {

/// Drop path masks of one block's two branches; see draw_drop_path_mask.
struct DropPathMasks {
  torch::Tensor att, ffn;
};

/// One VRWKV layer: spatial mix and channel mix, each with a residual connection, pre- or post-normalised.
class BlockImpl : public torch::nn::Cloneable<BlockImpl> {
 public:
  /// `layer` counts from 0; layer 0 alone has ln0, which normalises the embedded patches.
  BlockImpl(const VrwkvOptions& options, int64_t layer);
  void reset() override;
  void pretty_print(std::ostream& stream) const override;

  /// `next`: the feed of the result, for what reads it; Feed::none leaves it undefined. `adds`: that is another block,
  /// which adds this one's last branch itself where it gains by that.
  Stream forward(Stream stream, const Tokens& tokens, const DropPathMasks& masks, ops::Feed next, bool adds = false);

  /// What forward() hands to Bi-WKV. Not for attention bi_wkv6.
  BiWkvInputs bi_wkv_inputs(Stream stream, const Tokens& tokens);

  /// The feed that blocks of these options read.
  static ops::Feed feed_of(const VrwkvOptions& options) {
    return options.post_norm ? ops::Feed::cast : ops::Feed::standardized;
  }

  /// Probability with which this block's branches are dropped: rises linearly over the blocks.
  double drop_path_rate() const;

  torch::nn::LayerNorm ln0{nullptr}, ln1{nullptr}, ln2{nullptr};
  // One of the two, by options.attention; both are called `att`.
  SpatialMix att{nullptr};
  SpatialMix6 att6{nullptr};
  ChannelMix ffn{nullptr};
  torch::Tensor gamma1, gamma2;  ///< [C] layer scale; undefined without init_values.

 private:
  /// Whether a branch is added as it is, but for drop path.
  bool adds_plainly() const;
  bool leaves_sums(const Stream& stream, const Tokens& tokens) const;
  Stream add_attention(Stream stream, const Tokens& tokens, const torch::Tensor& mask, bool leaves_sum);
  Stream add_channel_mix(Stream stream, const Tokens& tokens, const torch::Tensor& mask, ops::Feed next,
                         bool leaves_sum);
  NormAffine branch_norm(const torch::nn::LayerNorm& norm) const;
  Stream enter(Stream stream) const;
  ops::ResidualBranch finished(ops::ResidualBranch branch, const torch::nn::LayerNorm& norm, const torch::Tensor& scale,
                               const torch::Tensor& mask) const;
  static Stream add(const torch::Tensor& x, const ops::ResidualBranch& branch, ops::Feed feed, bool leaves_sum);

  VrwkvOptions options_;
  int64_t layer_;
};

TORCH_MODULE(Block);

}  // namespace vrwkv
