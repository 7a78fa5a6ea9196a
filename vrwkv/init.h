#pragma once

#include <torch/nn/module.h>

namespace vrwkv {

class VrwkvImpl;

/// Sets the published initial values of a backbone's parameters (facts of arXiv 2403.02308 and its public code): decay,
/// first and mix by options().init_mode, linear weights by options().linear_init. Layer norms, layer scale, pos_embed
/// and the patch projection keep what their modules start with.
void initialize(VrwkvImpl& backbone);

/// Truncated normal (std 0.02) weights and zero biases of every linear layer inside `module`.
void initialize_linears(torch::nn::Module& module);

}  // namespace vrwkv
