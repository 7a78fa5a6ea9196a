#include "train/loggers/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <iomanip>
#include <sstream>
#include <string_view>

namespace vrwkv::train {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kRedrawInterval = std::chrono::milliseconds(100);
constexpr int64_t kMinBar = 5, kMaxBar = 20;  // Columns between the brackets.
constexpr std::string_view kGap = "  ";

bool can_redraw() {
  const char* terminal = std::getenv("TERM");
  return ::isatty(STDERR_FILENO) == 1 && (terminal == nullptr || std::string_view(terminal) != "dumb");
}

int64_t terminal_width() {
  winsize size{};
  return ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

template <typename... Parts>
std::string text_of(const Parts&... parts) {
  std::ostringstream text;
  text << std::fixed;
  (text << ... << parts);
  return text.str();
}

std::string bar(double share, int64_t width) {
  std::string text(static_cast<size_t>(width), '.');
  std::fill_n(text.begin(), static_cast<size_t>(std::clamp(share, 0.0, 1.0) * static_cast<double>(width)), '#');
  return text_of('[', text, ']');
}

std::string joined(const std::vector<std::string>& fields) {
  std::string text;
  for (const auto& field : fields) text.append(text.empty() ? "" : kGap).append(field);
  return text;
}

}  // namespace

std::string format_duration(double seconds) {
  // Ten years: beyond it the number says nothing.
  if (!(seconds >= 0 && seconds < 10 * 365.25 * 86400)) return "-:--";
  const auto total = static_cast<int64_t>(std::llround(seconds));
  std::ostringstream text;
  text << std::setfill('0');
  if (total >= 3600) text << total / 3600 << ':' << std::setw(2);
  text << total / 60 % 60 << ':' << std::setw(2) << total % 60;
  return text.str();
}

std::string progress_line(double share, const std::vector<std::string>& fields, int64_t width) {
  // The last column stays free: writing there would wrap the line on some terminals.
  const int64_t room = std::max<int64_t>(width - 1, 0);
  const std::string text = joined(fields);
  const auto brackets_and_gap = static_cast<int64_t>(2 + kGap.size());
  const int64_t bar_width = std::min(kMaxBar, room - std::ssize(text) - brackets_and_gap);
  if (bar_width >= kMinBar) return joined({bar(share, bar_width), text});
  std::vector<std::string> fitting = fields;
  while (!fitting.empty() && std::ssize(joined(fitting)) > room) fitting.pop_back();
  return joined(fitting);
}

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
  if (!live_) log::info(joined(fields()));
}

void Progress::finish() {
  if (!live_) return;
  draw();
  live_.reset();
}

}  // namespace vrwkv::train
