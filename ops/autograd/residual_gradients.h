#pragma once

#include <ATen/core/Tensor.h>

#include <array>

#include "ops/residual_add.h"

namespace vrwkv::ops {

/// The arguments of residual_add, of which the mask has no gradient.
enum ResidualInput { kX, kValue, kGate, kNormWeight, kNormBias, kScale, kResidualInputs };

/// What the gradients of a residual sum are made of. `value` is there where the branch has a gate, a norm or a scale;
/// `fed` and `rstd` where the feed is standardized.
struct SavedResidual {
  ResidualBranch branch;
  at::Tensor fed, rstd;
  at::ScalarType x_dtype, value_dtype;
  double eps;
};

/// Gradients of those inputs that are `needed`, by the CUDA kernel where one is needed; the others are undefined. One
/// of gy and gfeed may be undefined.
std::array<at::Tensor, kResidualInputs> residual_gradients(const at::Tensor& gy, const at::Tensor& gfeed,
                                                           const SavedResidual& saved,
                                                           std::array<bool, kResidualInputs> needed);

}  // namespace vrwkv::ops
