#pragma once

#include <ATen/core/Tensor.h>

namespace vrwkv::ops {

void check_add_places(const at::Tensor& x, const at::Tensor& bias, const at::Tensor& places);

/// By LibTorch's operations.
at::Tensor add_places_composite(const at::Tensor& x, const at::Tensor& bias, const at::Tensor& places);

/// Whether CUDA has kernels for such arguments.
bool add_places_is_fused(const at::Tensor& x, const at::Tensor& bias, const at::Tensor& places);

}  // namespace vrwkv::ops
