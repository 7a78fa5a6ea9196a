#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>

#include <initializer_list>

namespace vrwkv::ops {

/// Whether results must be differentiable.
inline bool needs_gradient(std::initializer_list<at::Tensor> tensors, at::TensorList more = {},
                           at::TensorList rest = {}) {
  if (!c10::GradMode::is_enabled()) return false;
  const auto any = [](const auto& list) {
    for (const at::Tensor& tensor : list) {
      if (tensor.defined() && tensor.requires_grad()) return true;
    }
    return false;
  };
  return any(tensors) || any(more) || any(rest);
}

}  // namespace vrwkv::ops
