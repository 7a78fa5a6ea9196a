#include "train/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <stdexcept>

namespace vrwkv::train {
namespace {

/// The decay's factor on the learning rate.
double decay(const config::ScheduleOptions& options, int64_t step, int64_t total_steps, int64_t steps_per_epoch) {
  const int64_t epoch = step / steps_per_epoch;
  const auto t = static_cast<double>(options.by_epoch ? epoch * steps_per_epoch : step);
  const auto total = static_cast<double>(total_steps);
  const double least = options.min_lr_ratio;
  switch (options.policy) {
    case config::SchedulePolicy::cosine:
      return least + (1.0 - least) * (0.5 * (1.0 + std::cos(std::numbers::pi * t / total)));
    case config::SchedulePolicy::linear:
      return least + (1.0 - least) * (1.0 - t / total);
    case config::SchedulePolicy::step:
      return std::max(least, std::pow(options.gamma, static_cast<double>(epoch / options.step_epochs)));
    case config::SchedulePolicy::constant:
      return 1.0;
  }
  throw std::logic_error("learning_rate: unknown policy");
}

}  // namespace

int64_t warmup_length(const config::ScheduleOptions& options, int64_t steps_per_epoch) {
  if (options.warmup_steps > 0) return options.warmup_steps;
  return std::llround(options.warmup_epochs * static_cast<double>(steps_per_epoch));
}

double learning_rate(const config::ScheduleOptions& options, double base_lr, int64_t step, int64_t total_steps,
                     int64_t warmup_steps, int64_t steps_per_epoch) {
  const double regular = base_lr * decay(options, step, total_steps, steps_per_epoch);
  if (step >= warmup_steps) return regular;
  const double t = static_cast<double>(step);
  return regular * (1.0 - (1.0 - t / static_cast<double>(warmup_steps)) * (1.0 - options.warmup_ratio));
}

}  // namespace vrwkv::train
