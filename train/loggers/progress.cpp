#include "train/loggers/progress.h"

#include <algorithm>
#include <cmath>
#include <iomanip>
#include <sstream>

#include "common/progress_line.h"

namespace vrwkv::train {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kRedrawInterval = std::chrono::milliseconds(100);

template <typename... Parts>
std::string text_of(const Parts&... parts) {
  std::ostringstream text;
  text << std::fixed;
  (text << ... << parts);
  return text.str();
}

}  // namespace

Progress::Progress(int64_t epochs, int64_t steps_per_epoch, int64_t first_step)
    : epochs_(epochs),
      steps_per_epoch_(steps_per_epoch),
      first_step_(first_step),
      step_(first_step),
      start_(Clock::now()),
      last_draw_(start_ - kRedrawInterval) {
  if (can_redraw()) live_.emplace();
}

double Progress::share() const {
  return static_cast<double>(step_) / static_cast<double>(std::max<int64_t>(epochs_ * steps_per_epoch_, 1));
}

std::vector<std::string> Progress::fields() const {
  const int64_t total = epochs_ * steps_per_epoch_;
  const int64_t done = step_ - first_step_;
  const double elapsed = std::chrono::duration<double>(Clock::now() - start_).count();
  const double left = done > 0 ? elapsed / static_cast<double>(done) * static_cast<double>(total - step_) : NAN;
  const int64_t epoch = std::min(epochs_, step_ / steps_per_epoch_ + 1);
  std::vector<std::string> all{text_of(std::setprecision(1), 100 * share(), "%"),
                               text_of("epoch ", epoch, "/", epochs_), text_of("step ", step_, "/", total)};
  if (latest_) all.push_back(text_of("loss ", std::setprecision(4), latest_->loss));
  all.push_back("ETA " + format_duration(left));
  if (latest_) {
    all.push_back(text_of(std::setprecision(1), latest_->images_per_s, " images/s"));
    all.push_back(text_of("lr ", std::scientific, std::setprecision(2), latest_->lr));
  }
  return all;
}

void Progress::draw() {
  last_draw_ = Clock::now();
  live_->show(progress_line(share(), fields(), terminal_width()));
}

void Progress::advance(int64_t step) {
  step_ = step;
  if (live_ && Clock::now() - last_draw_ >= kRedrawInterval) draw();
}

void Progress::update(const StepMetrics& metrics) {
  latest_ = metrics;
  advance(metrics.step);
  if (!live_) log::info(joined_fields(fields()));
}

void Progress::finish() {
  if (!live_) return;
  draw();
  live_.reset();
}

}  // namespace vrwkv::train
