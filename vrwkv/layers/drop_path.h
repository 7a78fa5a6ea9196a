#pragma once

#include <torch/types.h>

#include <cstdint>

namespace vrwkv {

/// Stochastic depth: for each sample 0 with probability `rate`, else 1 / (1 - rate). An undefined tensor when `rate` is
/// 0. The mask [B, 1, 1] is drawn apart from its use, so that a recomputed block (activation checkpointing) uses the
/// same.
torch::Tensor draw_drop_path_mask(int64_t batch, double rate, const torch::TensorOptions& options);

}  // namespace vrwkv
