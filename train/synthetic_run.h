#pragma once

#include "config/run_config.h"

namespace vrwkv::train {

/// Replaces data.train and data.val of `config` by synthetic images of model.num_classes classes, of the size that the
/// transforms ask for: two batches to train on and one to evaluate, but 1024 images at least. What the configuration
/// itself says of synthetic images is kept.
void use_synthetic_data(config::RunConfig& config);

}  // namespace vrwkv::train
