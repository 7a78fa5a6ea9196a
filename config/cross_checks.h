#pragma once

#include "config/node.h"
#include "config/problems.h"
#include "config/run_config.h"

namespace vrwkv::config {

/// Adds a problem for each pair of values that contradict each other; `root` tells where they were written.
void check_across_keys(const RunConfig& config, const Node& root, Problems& problems);

}  // namespace vrwkv::config
