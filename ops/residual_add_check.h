#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <tuple>

#include "ops/residual_add.h"

// What the backends of residual_add share.

namespace vrwkv::ops {

/// TORCH_CHECKs of what every backend of residual_add demands of its arguments.
void check_residual_add(const at::Tensor& x, const ResidualBranch& branch, int64_t feed);

/// The dtype of the sum x + z; x may be undefined.
at::ScalarType residual_add_dtype(const at::Tensor& x, const ResidualBranch& branch);

/// residual_add by LibTorch's own operations, which differentiate themselves: every device, dtype and size. The second
/// tensor is empty for Feed::none.
std::tuple<at::Tensor, at::Tensor> residual_add_composite(const at::Tensor& x, const ResidualBranch& branch,
                                                          int64_t feed, double eps);

/// Whether the CUDA kernels take tensors of this size and dtype; all others go through residual_add_composite.
bool residual_add_is_fused(const at::Tensor& x, const ResidualBranch& branch);

/// The arguments of the registered op as the C++ function takes them.
inline at::Tensor part(const std::optional<at::Tensor>& tensor) { return tensor.value_or(at::Tensor()); }
inline ResidualBranch residual_branch(const at::Tensor& value, const std::optional<at::Tensor>& gate,
                                      const std::optional<at::Tensor>& norm_weight,
                                      const std::optional<at::Tensor>& norm_bias,
                                      const std::optional<at::Tensor>& scale, const std::optional<at::Tensor>& mask) {
  return {value, part(gate), part(norm_weight), part(norm_bias), part(scale), part(mask)};
}

}  // namespace vrwkv::ops
