#pragma once

#include <ATen/core/Tensor.h>

// Weights in the dtype of the products, cast once a step. Autocast's own cache casts each weight by a kernel of its
// own, as it comes, and not those that are frozen.

namespace vrwkv::ops {

/// While one lives in a thread, that thread keeps the weights which it has cast; the outermost one drops them. Of use
/// for a pass over a network, not beyond an optimizer step: a replayed CUDA graph changes weights unseen.
class WeightCastScope {
 public:
  WeightCastScope();
  ~WeightCastScope();
  WeightCastScope(const WeightCastScope&) = delete;
  WeightCastScope& operator=(const WeightCastScope&) = delete;
};

/// Casts those of `weights`, all on one device, that are not kept in `dtype` yet, together, and keeps them. Does
/// nothing outside a scope.
void cast_weights(at::TensorList weights, at::ScalarType dtype);

/// What is kept of `weight` in `dtype`; undefined if nothing is, or if the weight has changed since. Without gradients.
at::Tensor kept_cast(const at::Tensor& weight, at::ScalarType dtype);

/// kept_cast(), or cast now (and kept, within a scope).
at::Tensor cast_weight(const at::Tensor& weight, at::ScalarType dtype);

}  // namespace vrwkv::ops
