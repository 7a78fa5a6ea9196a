#pragma once

#include <ATen/core/Tensor.h>

#include <tuple>

// What the backends of patch_embed share.

namespace vrwkv::ops {

/// By the operators that it consists of.
at::Tensor patch_embed_composite(const at::Tensor& images, const at::Tensor& weight, const at::Tensor& bias,
                                 const at::Tensor& places, at::ScalarType dtype);

/// The registered operators: whether there is a kernel for such arguments, and that kernel. It keeps the patches
/// [B, T, C * P * P], if asked to.
bool patch_embed_is_fused(const at::Tensor& images, const at::Tensor& weight, const at::Tensor& bias,
                          const at::Tensor& places, at::ScalarType dtype);
std::tuple<at::Tensor, at::Tensor> patch_embed_forward(const at::Tensor& images, const at::Tensor& weight,
                                                       const at::Tensor& bias, const at::Tensor& places,
                                                       bool keep_rows);

}  // namespace vrwkv::ops
