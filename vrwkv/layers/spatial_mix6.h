#pragma once

#include <torch/nn/cloneable.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/normalization.h>
#include <torch/nn/pimpl.h>

#include "vrwkv/layers/stream.h"
#include "vrwkv/layers/tokens.h"
#include "vrwkv/options.h"

namespace vrwkv {

struct SpatialMix6Options {
  int64_t embed_dims;  ///< C, whole heads of ops::kBiWkv6HeadSize.
  bool key_norm;
  Shift shift = Shift::q_shift;  ///< Within each head.
};

/// VRWKV6's attention (that of RWKV-6, arXiv 2404.05892, in both directions): Q-Shift within each head, five mixes of a
/// token with its shift that depend on the token, linear r, k, v, decays that depend on the token, bi_wkv6, a norm of
/// each head, and a gate.
class SpatialMix6Impl : public torch::nn::Cloneable<SpatialMix6Impl> {
 public:
  static constexpr int64_t kMixes = 5;       ///< w, k, v, r, g, in the order of time_maa_w2.
  static constexpr int64_t kMixRank = 32;    ///< Rank of a mix's dependence on the token.
  static constexpr int64_t kDecayRank = 64;  ///< Rank of the decay's dependence on the token.

  explicit SpatialMix6Impl(SpatialMix6Options options);
  void reset() override;
  void pretty_print(std::ostream& stream) const override;

  /// feed: [B, T, C] `tokens`, to which `norm` is applied first; returns [B, T, C].
  torch::Tensor forward(const torch::Tensor& feed, const NormAffine& norm, const Tokens& tokens);

  torch::Tensor time_maa_x, time_maa_w, time_maa_k, time_maa_v, time_maa_r, time_maa_g;  ///< [1, 1, C]
  torch::Tensor time_maa_w1;                                                             ///< [C, 5 * 32]
  torch::Tensor time_maa_w2;                                                             ///< [5, 32, C]
  torch::Tensor time_decay;                                                              ///< [1, 1, C]
  torch::Tensor time_decay_w1, time_decay_w2;                                            ///< [C, 64], [64, C]
  torch::Tensor time_faaaa;                                                              ///< [heads, 64]
  torch::nn::Linear key{nullptr}, value{nullptr}, receptance{nullptr}, gate{nullptr}, output{nullptr};
  torch::nn::LayerNorm key_norm{nullptr};  ///< Empty without key_norm.
  torch::nn::GroupNorm ln_x{nullptr};

 private:
  SpatialMix6Options options_;
};

TORCH_MODULE(SpatialMix6);

}  // namespace vrwkv
