#pragma once

#include <cstdint>

#include "config/run_config.h"

namespace vrwkv::train {

/// Iterations of the warm-up: options.warmup_steps, or warmup_epochs rounded to iterations.
int64_t warmup_length(const config::ScheduleOptions& options, int64_t steps_per_epoch);

/// Learning rate of step `step` (from 0) of `total_steps`: base_lr times the decay, times a linear warm-up over the
/// first `warmup_steps` that starts at warmup_ratio. With s = step / total_steps and m = min_lr_ratio the decay is
///   cosine:   m + (1 - m) * (1 + cos(pi * s)) / 2      (Loshchilov and Hutter, arXiv 1608.03983, without restarts)
///   linear:   m + (1 - m) * (1 - s)
///   step:     max(m, gamma ^ floor(epoch / step_epochs))
///   constant: 1
/// by_epoch takes for `step` the epoch's first one. A pure function, so resuming needs no state.
double learning_rate(const config::ScheduleOptions& options, double base_lr, int64_t step, int64_t total_steps,
                     int64_t warmup_steps, int64_t steps_per_epoch = 1);

}  // namespace vrwkv::train
