#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>

// Weights in the order in which a GPU's kernels read them, packed once a pass over a network: those of all its layers
// together where run_blocks() has them packed beforehand, else each as it comes.

namespace vrwkv::ops {

/// An order: the operator that packs weights so, layer after layer, and how many of a layer's weights become one
/// tensor. It gives one tensor a layer, or none if there is no kernel for such weights.
struct PackOrder {
  const char* packer;
  size_t weights;
};

constexpr PackOrder kPatchEmbedOrder{"vrwkv::_pack_patch_embed", 1};
constexpr PackOrder kShiftLinearGradientOrder{"vrwkv::_pack_token_shift_linear_gradient", 3};
constexpr PackOrder kChannelMixOrder{"vrwkv::_pack_channel_mix", 3};  ///< Key, value, receptance.
constexpr PackOrder kLinearResidualChannelMixOrder{"vrwkv::_pack_linear_residual_channel_mix",
                                                   4};  ///< The same with the linear layer's.
constexpr PackOrder kHiddenOrder{"vrwkv::_pack_hidden", 1};
constexpr PackOrder kHiddenGradientOrder{"vrwkv::_pack_hidden_gradient", 1};

/// Packs the weights of many layers, all on one GPU, that are not kept in this order yet, together, and keeps them.
/// Does nothing outside a scope (WeightCastScope).
void pack_weights(const PackOrder& order, at::TensorList weights);

/// What is kept of a layer's weights; undefined if nothing is, or if one of them has changed since.
at::Tensor kept_pack(const PackOrder& order, at::TensorList weights);

/// kept_pack(), or packed now (and kept, within a scope).
at::Tensor packed_weights(const PackOrder& order, at::TensorList weights);

}  // namespace vrwkv::ops
