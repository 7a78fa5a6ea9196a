#pragma once

#include <torch/csrc/autograd/custom_function.h>

#include <array>
#include <tuple>

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

/// The sum, its feed and the feed's 1 / sqrt(var + eps), by the CUDA kernel.
std::tuple<at::Tensor, at::Tensor, at::Tensor> residual_sum(const at::Tensor& x, const ResidualBranch& branch,
                                                            Feed feed, double eps);

/// Keeps in the context of such a sum's autograd function what is no tensor; those are its own. `fed` is its second
/// result.
void keep_sum(torch::autograd::AutogradContext& context, at::ScalarType x_dtype, at::ScalarType value_dtype, double eps,
              Feed feed, const at::Tensor& fed);

/// That and the tensors again.
SavedResidual kept_sum(torch::autograd::AutogradContext& context, const ResidualBranch& branch, const at::Tensor& fed,
                       const at::Tensor& rstd);

/// Gradients of those inputs that are `needed`, by the CUDA kernel where one is needed; the others are undefined. One
/// of gy and gfeed may be undefined.
std::array<at::Tensor, kResidualInputs> residual_gradients(const at::Tensor& gy, const at::Tensor& gfeed,
                                                           const SavedResidual& saved,
                                                           std::array<bool, kResidualInputs> needed);

}  // namespace vrwkv::ops
