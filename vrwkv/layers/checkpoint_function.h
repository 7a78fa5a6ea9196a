#pragma once

#include <torch/types.h>

#include <functional>

namespace vrwkv {

/// Activation checkpointing: runs `function(x)` without keeping its intermediate results and runs it a second time in
/// the backward pass. The gradients of parameters that `function` uses are added to their .grad by that second run.
/// `function` must be deterministic (draw random masks outside) and stay valid until the backward pass. x must require
/// grad; autocast is as it was in the first run.
torch::Tensor checkpoint(const std::function<torch::Tensor(const torch::Tensor&)>& function, const torch::Tensor& x);

}  // namespace vrwkv
