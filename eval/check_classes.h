#pragma once

#include <string>
#include <vector>

#include "config/run_config.h"
#include "data/dataset.h"

namespace vrwkv::eval {

/// Throws UsageError unless `dataset` has as many classes as the model, and, where both have names, the same ones in the
/// same order as the checkpoint. `what` names the dataset in the message (data.train, data.val).
void check_classes(const data::Dataset& dataset, const std::string& what, const config::RunConfig& config,
                   const std::vector<std::string>& checkpoint_classes);

}  // namespace vrwkv::eval
