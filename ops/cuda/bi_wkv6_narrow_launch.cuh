#pragma once

// Launches of bi_wkv6's kernels with products in bfloat16, in bi_wkv6_narrow.cu.

#include "ops/cuda/bi_wkv6_backward.cuh"
#include "ops/cuda/bi_wkv6_launch.cuh"

namespace vrwkv::ops::cuda::wkv6 {

using NarrowLauncher = Launcher<float, at::BFloat16>;

/// Whether the current device multiplies matrices of bfloat16; others take the kernels of all types.
inline bool has_narrow_products() { return at::cuda::getCurrentDeviceProperties()->major >= 8; }

/// What bi_wkv6 and _bi_wkv6_backward are on bfloat16 inputs on devices that have such products.
void narrow_forward(const NarrowLauncher& launcher, at::BFloat16* y);
void narrow_backward(const NarrowLauncher& launcher, const Gradients<float, at::BFloat16>& gradients);

}  // namespace vrwkv::ops::cuda::wkv6
