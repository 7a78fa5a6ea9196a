#pragma once

#include <filesystem>
#include <string>
#include <string_view>

/// The log of a run: time-stamped lines on stderr and, once a run has a folder, in a file there. A facade, so that no
/// other file sees the library behind it (its fmt would clash with the one in LibTorch's include folder). Any thread
/// may log.
namespace vrwkv::log {

enum class Level { debug, info, warn, error };

void debug(std::string_view message);
void info(std::string_view message);
void warn(std::string_view message);
void error(std::string_view message);

/// Lines below `level` are dropped from now on; it is Level::info at the start.
void set_level(Level level);

/// From now on lines begin with `tag` in brackets, as in "[rank 3]".
void set_tag(std::string_view tag);

/// From now on lines are appended to `file` too, in place of a file given before. Throws std::runtime_error when it
/// cannot be opened.
void add_file(const std::filesystem::path& file);

/// A last line of the terminal that is redrawn in place, such as a progress bar: log lines appear above it. At most one
/// lives at a time, and only when stderr is a terminal.
class LiveLine {
 public:
  LiveLine();
  /// Ends the line, so that what is printed next starts on one of its own.
  ~LiveLine();
  LiveLine(const LiveLine&) = delete;
  LiveLine& operator=(const LiveLine&) = delete;

  /// `text` must fit into one line of the terminal.
  void show(std::string text);
};

}  // namespace vrwkv::log
