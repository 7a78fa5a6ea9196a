#pragma once

#include <memory>

#include "train/optimizer.h"

namespace vrwkv::train {

/// The optimizer that options.name says.
std::unique_ptr<Optimizer> make_optimizer(std::vector<ParamGroup> groups, const config::OptimizerOptions& options);

}  // namespace vrwkv::train
