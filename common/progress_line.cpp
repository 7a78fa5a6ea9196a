#include "common/progress_line.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <iomanip>
#include <sstream>
#include <string_view>

namespace vrwkv {
namespace {

constexpr int64_t kMinBar = 5, kMaxBar = 20;  // Columns between the brackets.
constexpr std::string_view kGap = "  ";

std::string bar(double share, int64_t width) {
  std::string text(static_cast<size_t>(width), '.');
  std::fill_n(text.begin(), static_cast<size_t>(std::clamp(share, 0.0, 1.0) * static_cast<double>(width)), '#');
  return '[' + text + ']';
}

}  // namespace

bool can_redraw() {
  const char* terminal = std::getenv("TERM");
  return ::isatty(STDERR_FILENO) == 1 && (terminal == nullptr || std::string_view(terminal) != "dumb");
}

int64_t terminal_width() {
  winsize size{};
  return ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

std::string joined_fields(const std::vector<std::string>& fields) {
  std::string text;
  for (const auto& field : fields) text.append(text.empty() ? "" : kGap).append(field);
  return text;
}

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
  const std::string text = joined_fields(fields);
  const auto brackets_and_gap = static_cast<int64_t>(2 + kGap.size());
  const int64_t bar_width = std::min(kMaxBar, room - std::ssize(text) - brackets_and_gap);
  if (bar_width >= kMinBar) return joined_fields({bar(share, bar_width), text});
  std::vector<std::string> fitting = fields;
  while (!fitting.empty() && std::ssize(joined_fields(fitting)) > room) fitting.pop_back();
  return joined_fields(fitting);
}

}  // namespace vrwkv
