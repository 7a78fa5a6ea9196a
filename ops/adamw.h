#pragma once

#include <ATen/core/Tensor.h>

namespace vrwkv::ops {

/// What a step of AdamW reads beside the tensors of the parameters.
struct AdamWStep {
  double beta1, beta2, weight_decay, eps;
  const at::Tensor& lr;     ///< 0-d float32, on the device like all of the following.
  const at::Tensor& steps;  ///< 0-d float32: steps with this one.
  at::TensorList factors;   ///< Up to two, 0-d float32: the gradients count as multiplied by one after the other.
  const at::Tensor& skip;   ///< 0-d float32, where it is 1 nothing changes; or undefined.
};

/// One step of AdamW (Loshchilov and Hutter, arXiv 1711.05101) on CUDA, for all parameters in one kernel. Results are
/// those of LibTorch's fused kernels, which cut their work into pieces of 65,536 numbers, too few for small networks,
/// and take gradients as they are, so that clipping is a pass of its own.
///
/// All are contiguous float32 tensors of one device; the i-th ones of the lists have equal sizes. Throws c10::Error
/// otherwise.
///
/// @param values       The parameters, changed in place.
/// @param gradients    Not changed.
/// @param exp_avgs     Running means of the gradients, changed in place,
/// @param exp_avg_sqs  and of their squares.
void adamw_step(at::TensorList values, at::TensorList gradients, at::TensorList exp_avgs, at::TensorList exp_avg_sqs,
                const AdamWStep& step);

}  // namespace vrwkv::ops
