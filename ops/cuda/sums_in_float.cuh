#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace vrwkv::ops::cuda {

/// x.sum(dim) * factor in float32, of a contiguous x in bfloat16 or float16, in two stages and a fixed order.
at::Tensor sums_in_float(const at::Tensor& x, int64_t dim, float factor = 1);

}  // namespace vrwkv::ops::cuda
