#pragma once

#include <ATen/core/Tensor.h>

#include <span>
#include <string_view>

namespace vrwkv::data::augment {

/// What an operation takes beside the image.
enum class Argument { none, whole, real };

/// An operation of operations.h under its name there.
struct NamedOperation {
  std::string_view name;
  Argument argument;
  at::Tensor (*apply)(const at::Tensor& image, double argument);  ///< `none` ignores it, `whole` drops its fraction.
};

/// All of them, in the order of operations.h and OperationKind.
std::span<const NamedOperation> named_operations();

}  // namespace vrwkv::data::augment
