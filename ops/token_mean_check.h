#pragma once

#include <ATen/core/Tensor.h>

namespace vrwkv::ops {

void check_token_mean(const at::Tensor& x);

/// By LibTorch's operations.
at::Tensor token_mean_composite(const at::Tensor& x);

/// Whether x is of the dtypes that CUDA has kernels for.
bool token_mean_is_fused(const at::Tensor& x);

}  // namespace vrwkv::ops
