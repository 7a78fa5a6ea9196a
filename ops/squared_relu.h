#pragma once

#include <ATen/core/Tensor.h>

namespace vrwkv::ops {

/// relu(x)^2 (arXiv 2403.02308, equation 8).
///
/// @param x  Any shape, any floating point dtype, on CPU or CUDA.
/// @return   Like x. Arithmetic is in float32 (float64 for float64), rounded once; NaN stays NaN.
///
/// Differentiable, on CUDA once: there the gradient 2 relu(x) is 2 sqrt(y), so that the result alone is kept, except in
/// float16, whose squares leave its range too soon. Registered as vrwkv::squared_relu.
at::Tensor squared_relu(const at::Tensor& x);

}  // namespace vrwkv::ops
