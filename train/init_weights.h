#pragma once

#include <torch/nn/module.h>

#include <optional>
#include <string>
#include <vector>

#include "config/run_config.h"

namespace vrwkv::train {

/// Puts the weights of model.init_from into `model` when a new run starts; one that `resume` continues keeps its own.
/// Returns lines for the log that say what was taken: none without init_from. Throws UsageError for a missing file,
/// std::runtime_error for a damaged one or weights of another model.
std::vector<std::string> init_weights(const config::RunConfig& config, const std::optional<std::string>& resume,
                                      torch::nn::Module& model);

}  // namespace vrwkv::train
