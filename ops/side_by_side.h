#pragma once

#include <ATen/core/Tensor.h>

namespace vrwkv::ops {

/// Gradients side by side along the last dimension, [..., n C] of n of them: a view of the tensor whose neighbouring
/// slices they are, if so, else a copy. Undefined ones are zeros.
///
/// @param parts  At least one, undefined or of the shape [..., C], dtype and device of `like`.
at::Tensor side_by_side(at::TensorList parts, const at::Tensor& like);

}  // namespace vrwkv::ops
