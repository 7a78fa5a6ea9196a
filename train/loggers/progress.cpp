#include "train/loggers/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <iomanip>
#include <sstream>

namespace vrwkv::train {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kRedrawInterval = std::chrono::milliseconds(100);
constexpr int64_t kBarWidth = 20;
constexpr const char* kClearLine = "\r\033[K";

int64_t terminal_width() {
  winsize size{};
  return ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

void put(const std::string& text) {
  std::fputs(text.c_str(), stderr);
  std::fflush(stderr);
}

}  // namespace

std::string format_duration(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0) return "-:--";
  const auto total = static_cast<int64_t>(std::llround(seconds));
  std::ostringstream text;
  text << std::setfill('0');
  if (total >= 3600) text << total / 3600 << ':' << std::setw(2);
  text << total / 60 % 60 << ':' << std::setw(2) << total % 60;
  return text.str();
}

std::string progress_line(double share, const std::string& text, int64_t width) {
  const auto full = static_cast<int64_t>(std::clamp(share, 0.0, 1.0) * static_cast<double>(kBarWidth));
  std::string line = "[" + std::string(static_cast<size_t>(full), '#') +
                     std::string(static_cast<size_t>(kBarWidth - full), '.') + "] " + text;
  // The last column stays free: writing there would wrap the line on some terminals.
  if (static_cast<int64_t>(line.size()) > width - 1) line.resize(static_cast<size_t>(std::max<int64_t>(0, width - 1)));
  return line;
}

Progress::Progress(int64_t epochs, int64_t steps_per_epoch, int64_t first_step)
    : epochs_(epochs),
      steps_per_epoch_(steps_per_epoch),
      first_step_(first_step),
      step_(first_step),
      terminal_(::isatty(STDERR_FILENO) == 1),
      start_(Clock::now()),
      last_draw_(start_ - kRedrawInterval) {
  if (terminal_) live_.emplace([] { put(kClearLine); }, [this] { draw(); });
}

std::string Progress::describe() const {
  const int64_t total = epochs_ * steps_per_epoch_;
  const int64_t done = step_ - first_step_;
  const double elapsed = std::chrono::duration<double>(Clock::now() - start_).count();
  const double left = done > 0 ? elapsed / static_cast<double>(done) * static_cast<double>(total - step_) : NAN;
  std::ostringstream text;
  text << "epoch " << std::min(epochs_, step_ / steps_per_epoch_ + 1) << "/" << epochs_ << "  step " << step_ << "/" << total
       << "  ETA " << format_duration(left);
  if (latest_) {
    text << "  loss " << std::fixed << std::setprecision(4) << latest_->loss << "  " << std::setprecision(1)
         << latest_->images_per_s << " images/s  lr " << std::scientific << std::setprecision(2) << latest_->lr;
  }
  return text.str();
}

void Progress::draw() {
  last_draw_ = Clock::now();
  const double share = static_cast<double>(step_) / static_cast<double>(epochs_ * steps_per_epoch_);
  put(kClearLine + progress_line(share, describe(), terminal_width()));
}

void Progress::advance(int64_t step) {
  step_ = step;
  if (terminal_ && Clock::now() - last_draw_ >= kRedrawInterval) draw();
}

void Progress::update(const StepMetrics& metrics) {
  latest_ = metrics;
  advance(metrics.step);
  if (!terminal_) log::info(describe());
}

void Progress::finish() {
  if (!terminal_ || !live_) return;
  live_.reset();
  draw();
  put("\n");
}

}  // namespace vrwkv::train
