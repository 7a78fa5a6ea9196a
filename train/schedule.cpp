#include "train/schedule.h"

#include <cmath>
#include <numbers>

namespace vrwkv::train {

double learning_rate(const config::ScheduleOptions& options, double base_lr, int64_t step, int64_t total_steps,
                     int64_t warmup_steps) {
  const double t = static_cast<double>(step);
  const double cosine = 0.5 * (1.0 + std::cos(std::numbers::pi * t / static_cast<double>(total_steps)));
  const double regular = base_lr * (options.min_lr_ratio + (1.0 - options.min_lr_ratio) * cosine);
  if (step >= warmup_steps) return regular;
  return regular * (1.0 - (1.0 - t / static_cast<double>(warmup_steps)) * (1.0 - options.warmup_ratio));
}

}  // namespace vrwkv::train
