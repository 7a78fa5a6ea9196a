#pragma once

#include <torch/nn/module.h>
#include <torch/nn/modules/container/modulelist.h>

#include "vrwkv/options.h"

namespace vrwkv {

/// Sets the published initial values of all `blocks` of a network (facts of arXiv 2403.02308 and its public code):
/// decay, first and mix by options.init_mode, linear weights by options.linear_init. Layer norms and layer scale keep
/// what their modules start with.
void initialize_blocks(torch::nn::ModuleListImpl& blocks, const VrwkvOptions& options);

/// Truncated normal (std 0.02) weights and zero biases of every linear layer inside `module`.
void initialize_linears(torch::nn::Module& module);

}  // namespace vrwkv
