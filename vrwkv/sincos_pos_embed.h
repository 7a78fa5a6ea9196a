#pragma once

#include <torch/types.h>

#include "vrwkv/layers/grid.h"

namespace vrwkv {

/// Sine-cosine position embedding of a grid, float32 [1, T, channels], row by row: the first half of the channels for
/// the column, the second for the row, each [sin(p w_0), sin(p w_1), ..., cos(p w_0), cos(p w_1), ...] with
/// w_i = 10000^(-i / (channels / 4)). Computed in float64. Throws c10::Error unless 4 divides `channels`.
torch::Tensor sincos_pos_embed(Grid grid, int64_t channels);

}  // namespace vrwkv
