#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace vrwkv::testing {

/// The definition of ops::q_shift: each quarter of a group of channels of x [B, height * width, C] is the zero-padded
/// grid, moved by one.
at::Tensor q_shift_reference(const at::Tensor& x, int64_t height, int64_t width, int64_t group);

}  // namespace vrwkv::testing
