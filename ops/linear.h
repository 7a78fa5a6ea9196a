#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace vrwkv::ops {

/// x weight^T: a linear layer without bias.
///
/// @param x       [..., C]; under autocast, which casts it, of any floating point dtype.
/// @param weight  [D, C], of x's dtype or another, which is then cast: as autocast says, without it to x's dtype.
/// @return        [..., D] in autocast's dtype, or x's.
///
/// at::linear, but for gradients on CUDA with a float32 weight and a product in bfloat16 or float16. There the gradient
/// of the weight comes out of its product in float32, never rounded as autocast's is, and the weight's cast is one of
/// cast_weights(), if it is there. Once differentiable there, like the other operators' CUDA kernels.
at::Tensor linear(const at::Tensor& x, const at::Tensor& weight);

/// linear() of each x and its weight. Where those of one size go to a kernel of our own (ops/products.h), that is one.
///
/// @param x        As linear() takes it, at least one, all of one dtype.
/// @param weights  As many; on CUDA all of float32 for gradients as linear()'s.
std::vector<at::Tensor> linears(at::TensorList x, at::TensorList weights);

}  // namespace vrwkv::ops
