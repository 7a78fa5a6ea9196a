#pragma once

#include <torch/nn/cloneable.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/normalization.h>
#include <torch/nn/pimpl.h>

#include "vrwkv/layers/stream.h"
#include "vrwkv/layers/tokens.h"
#include "vrwkv/options.h"

namespace vrwkv {

struct SpatialMixOptions {
  int64_t embed_dims;
  bool key_norm;
  bool published_wkv = false;  ///< The public kernel's formula instead of the paper's.
  Shift shift = Shift::q_shift;
};

/// What SpatialMix hands to Bi-WKV and its gate: w, u [C]; k, v and r (logits of the gate) [B, T, C].
struct BiWkvInputs {
  torch::Tensor w, u, k, v, r;
};

/// VRWKV's attention: Q-Shift, linear r, k, v, Bi-WKV and a gate (arXiv 2403.02308, equations 2 to 4).
class SpatialMixImpl : public torch::nn::Cloneable<SpatialMixImpl> {
 public:
  explicit SpatialMixImpl(SpatialMixOptions options);
  void reset() override;
  void pretty_print(std::ostream& stream) const override;

  /// Of the feed of `stream`, [B, T, C] `tokens`, to which `norm` is applied first; [B, T, C]. The stream is a sum
  /// then.
  torch::Tensor forward(Stream& stream, const NormAffine& norm, const Tokens& tokens);

  /// forward() but for its last linear layer, `output`.
  torch::Tensor mix(Stream& stream, const NormAffine& norm, const Tokens& tokens);

  /// The first half of forward(): all that comes before Bi-WKV.
  BiWkvInputs project(Stream& stream, const NormAffine& norm, const Tokens& tokens);

  torch::Tensor spatial_decay, spatial_first;                 ///< [C]
  torch::Tensor spatial_mix_k, spatial_mix_v, spatial_mix_r;  ///< [1, 1, C]
  torch::nn::Linear key{nullptr}, value{nullptr}, receptance{nullptr}, output{nullptr};
  torch::nn::LayerNorm key_norm{nullptr};  ///< Empty without key_norm.

 private:
  SpatialMixOptions options_;
};

TORCH_MODULE(SpatialMix);

}  // namespace vrwkv
