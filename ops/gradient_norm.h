#pragma once

#include <ATen/core/Tensor.h>

#include <tuple>

namespace vrwkv::ops {

/// The 2-norm of all gradients together, and what clips them to a norm of `max_norm`, by two kernels on CUDA.
///
/// @param gradients  Contiguous float32 tensors of one CUDA device.
/// @param factors    Up to two, 0-d float32 there: the gradients count as multiplied by one after the other.
/// @return           norm and min(1, max_norm / (norm + 1e-6)), 0-d float32. NaN where a gradient is; equal bits in
///                   every run on a device.
std::tuple<at::Tensor, at::Tensor> gradient_norm(at::TensorList gradients, at::TensorList factors, double max_norm);

}  // namespace vrwkv::ops
