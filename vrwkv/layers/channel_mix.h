#pragma once

#include <torch/nn/cloneable.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/normalization.h>
#include <torch/nn/pimpl.h>

#include "ops/channel_mix.h"
#include "vrwkv/layers/stream.h"
#include "vrwkv/layers/tokens.h"
#include "vrwkv/options.h"

namespace vrwkv {

struct ChannelMixOptions {
  int64_t embed_dims;
  int64_t hidden_rate;
  bool key_norm;
  bool head_shift = false;  ///< Shift within each head of 64 channels, as VRWKV6 does, instead of over all channels.
  Shift shift = Shift::q_shift;
};

/// sigmoid(gate) * value, [B, T, C] each: the product is left to the residual sum, which reads both once.
struct GatedValue {
  torch::Tensor value, gate;
};

/// VRWKV's feed-forward part: Q-Shift, squared ReLU and a gate (arXiv 2403.02308, equation 8).
class ChannelMixImpl : public torch::nn::Cloneable<ChannelMixImpl> {
 public:
  explicit ChannelMixImpl(ChannelMixOptions options);
  void reset() override;
  void pretty_print(std::ostream& stream) const override;

  /// Of the feed of `stream`, [B, T, C] `tokens`, to which `norm` is applied first. The stream is a sum then.
  GatedValue forward(Stream& stream, const NormAffine& norm, const Tokens& tokens);

  /// Whether forward() and the residual sum behind it are the operator channel_mix.
  bool is_operator(const Tokens& tokens) const;

  /// That operator's parameters; `norm` as forward() takes it.
  ops::ChannelMixParameters parameters(const NormAffine& norm) const;

  torch::Tensor spatial_mix_k, spatial_mix_r;  ///< [1, 1, C]
  torch::nn::Linear key{nullptr}, receptance{nullptr}, value{nullptr};
  torch::nn::LayerNorm key_norm{nullptr};  ///< Over the hidden channels; empty without key_norm.

 private:
  ChannelMixOptions options_;
};

TORCH_MODULE(ChannelMix);

}  // namespace vrwkv
