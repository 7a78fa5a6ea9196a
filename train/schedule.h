#pragma once

#include <cstdint>

#include "config/run_config.h"

namespace vrwkv::train {

/// Learning rate of step `step` (from 0) of `total_steps`: cosine from step 0 down to min_lr_ratio, times a linear
/// warm-up over the first `warmup_steps` that starts at warmup_ratio. A pure function, so resuming needs no state.
double learning_rate(const config::ScheduleOptions& options, double base_lr, int64_t step, int64_t total_steps,
                     int64_t warmup_steps);

}  // namespace vrwkv::train
