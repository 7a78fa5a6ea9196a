#pragma once

#include "ops/residual_add.h"

namespace vrwkv::testing {

/// residual_add as its formula reads, in elementary operations of which autograd gives the reference gradients. `feed`
/// says what to return beside the sum. Pass float64 tensors.
ops::ResidualOutput residual_add_reference(const at::Tensor& x, const ops::ResidualBranch& branch, ops::Feed feed,
                                           double eps);

}  // namespace vrwkv::testing
