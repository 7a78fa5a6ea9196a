#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

namespace vrwkv::ops {

/// An undefined tensor as the dispatcher's schemas take it: as no tensor.
inline std::optional<at::Tensor> optional_tensor(const at::Tensor& tensor) {
  return tensor.defined() ? std::optional<at::Tensor>(tensor) : std::nullopt;
}

}  // namespace vrwkv::ops
