#pragma once

#include <cstdint>

#include "config/run_config.h"

namespace vrwkv::train {

/// How one optimizer step's batch is divided.
struct BatchSplit {
  int64_t part = 0;   ///< Images that one process takes at once.
  int64_t parts = 0;  ///< How often it does so in a step.
};

/// train.batch_size = processes * parts * part, by train.grad_accumulation or train.micro_batch_size. Throws UsageError
/// where that does not come out even, with the numbers that would.
BatchSplit split_batch(const config::TrainOptions& options, int64_t processes);

}  // namespace vrwkv::train
