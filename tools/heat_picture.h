#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <utility>
#include <vector>

namespace vrwkv::tools {

/// Values [H, W] as colours uint8 [H, W, 3]: 0 is black, then violet, red and orange to a pale yellow at 1, each
/// brighter than the one before. Values outside of 0 ... 1 count as the nearer end.
at::Tensor heat_colors(const at::Tensor& values);

/// Values [H, W] of at least 0 on a logarithmic scale: the largest becomes 1, what is `decades` powers of ten smaller,
/// or 0, becomes 0. Float64.
at::Tensor log_scaled(const at::Tensor& values, double decades);

/// Values [H, W] brought to 0 ... 1, the smallest and the largest; 0 where all are equal. Float64.
at::Tensor range_scaled(const at::Tensor& values);

/// Each pixel of uint8 [H, W, 3] as factor x factor pixels.
at::Tensor enlarged(const at::Tensor& picture, int64_t factor);

/// An image uint8 [S, S, 3], and beside it the same, grey, under the heat of `values` [h, w] within 0 ... 1, one value
/// for each patch, with a frame around the patch `token` (row, column). S must be a multiple of h and w.
at::Tensor heat_over_image(const at::Tensor& image, const at::Tensor& values, std::pair<int64_t, int64_t> token);

/// Pictures uint8 [H, W, 3] of one width below each other, on white, with a margin, and at the right the scale of
/// colours from 0 (below) to 1.
at::Tensor framed(const std::vector<at::Tensor>& pictures);

}  // namespace vrwkv::tools
