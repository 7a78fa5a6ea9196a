#pragma once

#include <torch/nn/module.h>

#include <string>
#include <vector>

namespace vrwkv::train {

/// Takes the parameters of `model` whose names match one of `patterns` out of the training: requires_grad becomes
/// false, so that they get neither gradient nor optimizer state nor weight decay. In a pattern `*` stands for any
/// letters (dots as well), `?` for one and `[ab]` for one of these. Returns their names. Throws UsageError for a
/// pattern that matches nothing, with the nearest that would, and when no parameter would be left to train.
std::vector<std::string> freeze_parameters(torch::nn::Module& model, const std::vector<std::string>& patterns);

}  // namespace vrwkv::train
