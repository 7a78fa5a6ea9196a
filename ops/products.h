#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

// The products of linear layers, for layers and gradients whose weights are already in the dtype of the products.

namespace vrwkv::ops {

/// rows_i weights_i^T for each i, or where `transposed` rows_i weights_i: the gradient of a linear layer's input.
///
/// @param rows        [..., C], or transposed [..., D], of one dtype and device.
/// @param weights     [D, C], as many as rows, of their dtype.
/// @return            [..., D], or transposed [..., C]; contiguous where the kernel computes them.
///
/// One kernel for all of them, if there is one for their sizes (ops/cuda/hopper/products.cu), else at::linear or
/// at::matmul of each. Two runs give equal bits. Without gradients. Registered as vrwkv::_products.
std::vector<at::Tensor> products(at::TensorList rows, at::TensorList weights, bool transposed = false);

/// One of them.
at::Tensor product(const at::Tensor& rows, const at::Tensor& weight, bool transposed = false);

/// The same by LibTorch's functions.
std::vector<at::Tensor> products_one_by_one(at::TensorList rows, at::TensorList weights, bool transposed);

}  // namespace vrwkv::ops
