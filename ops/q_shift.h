#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

namespace vrwkv::ops {

/// Q-Shift (arXiv 2403.02308, equation 5): each quarter of the channels reads the token of one neighbour.
///
/// Channels [0, C/4) read the left neighbour (column j - 1), [C/4, C/2) the right (j + 1), [C/2, 3C/4) the upper
/// (row i - 1), [3C/4, C) the lower (i + 1); bounds are rounded down, outside the grid 0 is read.
///
/// @param x       [B, height * width, C], tokens row by row, any floating point dtype, on CPU or CUDA.
/// @param height  Rows of the patch grid, >= 1.
/// @param width   Columns of the patch grid, >= 1.
/// @param group   Channels that are shifted by quarters of their own, as VRWKV6 does with heads; a divisor of C.
///                Without: all C.
/// @return        [B, height * width, C] in x's dtype, contiguous.
///
/// Differentiable any number of times (the gradient is the shift in the opposite direction). Registered as
/// vrwkv::q_shift. Throws c10::Error that names argument, expected and actual.
at::Tensor q_shift(const at::Tensor& x, int64_t height, int64_t width, std::optional<int64_t> group = std::nullopt);

}  // namespace vrwkv::ops
