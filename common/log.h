#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string_view>

/// The log of a run: time-stamped lines on stderr and, once a run has a folder, in a file there. A facade, so that no
/// other file sees the library behind it (its fmt would clash with the one in LibTorch's include folder).
namespace vrwkv::log {

void debug(std::string_view message);
void info(std::string_view message);
void warn(std::string_view message);
void error(std::string_view message);

/// Also appends to `file` from now on. Throws std::runtime_error when it cannot be opened.
void add_file(const std::filesystem::path& file);

/// While it lives, `clear` runs before each line that goes to stderr and `redraw` after it: a progress bar gives way.
class LiveLine {
 public:
  LiveLine(std::function<void()> clear, std::function<void()> redraw);
  ~LiveLine();
  LiveLine(const LiveLine&) = delete;
  LiveLine& operator=(const LiveLine&) = delete;
};

}  // namespace vrwkv::log
