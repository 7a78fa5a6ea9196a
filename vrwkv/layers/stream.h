#pragma once

#include <torch/types.h>

#include "ops/residual_add.h"

namespace vrwkv {

/// What runs through the blocks.
struct Stream {
  torch::Tensor x;  ///< [B, T, C] the residual sum, in the precision of the weights.
  /// [B, T, C] what the next branch reads of x, in the precision of the matrix products: x standardised over the
  /// channels for pre-normalised blocks (whose norm has but its weight and bias to apply), x itself for post-normalised
  /// ones. Undefined where it still has to be made of x.
  torch::Tensor feed;
  /// What the next branch adds to x with its first operator, instead of a feed; its value is undefined for nothing.
  ops::ResidualBranch branch = {};

  bool is_sum() const { return !branch.value.defined(); }
};

/// The weight and bias of a layer norm whose standardisation is done already, [C] each; undefined: none.
struct NormAffine {
  torch::Tensor weight, bias;
};

/// The feed of `x`, made of it alone.
torch::Tensor make_feed(const torch::Tensor& x, bool standardized);

}  // namespace vrwkv
