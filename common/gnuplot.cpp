#include "common/gnuplot.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <mutex>

#include "common/atomic_file.h"
#include "common/log.h"

namespace vrwkv {
namespace {

namespace fs = std::filesystem;

struct Result {
  bool missing = false;
  std::string problem;  ///< Why there is no picture; empty when there is one.
};

std::string first_line(int descriptor) {
  std::string text;
  std::array<char, 512> buffer{};
  for (ssize_t count; (count = ::read(descriptor, buffer.data(), buffer.size())) != 0;) {
    if (count < 0 && errno != EINTR) break;
    if (count > 0) text.append(buffer.data(), static_cast<size_t>(count));
  }
  const size_t begin = text.find_first_not_of("\n\r \t");
  return begin == std::string::npos ? "" : text.substr(begin, text.find('\n', begin) - begin);
}

/// Runs gnuplot on `script`; what it prints goes to the file `output`.
Result run_gnuplot(const fs::path& script, const fs::path& output) {
  std::array<int, 2> messages{};
  if (::pipe2(messages.data(), O_CLOEXEC) != 0) return {false, std::strerror(errno)};
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, output.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0666);
  posix_spawn_file_actions_adddup2(&files, messages[1], STDERR_FILENO);
  // A process group of its own: Ctrl-C, which ends a training in good order, must not cut its last picture off.
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
  std::string program = "gnuplot", file = script.string();
  const std::array<char*, 3> arguments{program.data(), file.data(), nullptr};
  pid_t child = 0;
  const int spawned = ::posix_spawnp(&child, program.c_str(), &files, &attributes, arguments.data(), environ);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&files);
  ::close(messages[1]);
  const std::string message = spawned == 0 ? first_line(messages[0]) : std::strerror(spawned);
  ::close(messages[0]);
  if (spawned != 0) return {spawned == ENOENT, message};
  int status = 0;
  while (::waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) return {false, std::strerror(errno)};
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return {};
  return {false, message.empty() ? "it ended with status " + std::to_string(status) : message};
}

}  // namespace

std::string gnuplot_string(const std::string& text, size_t length) {
  size_t end = std::min(length, text.size());
  while (end < text.size() && end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  std::string result = "\"";
  for (const char c : text.substr(0, end)) {
    if (c == '"' || c == '\\') result += '\\';
    result += c == '\n' ? ' ' : c;
  }
  return result + "\"";
}

void draw_with_gnuplot(const std::string& script, const fs::path& png, PlotScript after) {
  const fs::path unfinished = png.string() + std::string(AtomicFile::kTemporarySuffix);
  const fs::path script_path = fs::path(png).replace_extension(".gnuplot");
  AtomicFile file(script_path);
  file.write(script);
  file.commit();

  const Result result = run_gnuplot(script_path, unfinished);
  std::error_code problem;
  if (result.problem.empty()) {
    if (after == PlotScript::remove) fs::remove(script_path, problem);
    fs::rename(unfinished, png, problem);
    if (problem) log::warn("cannot put " + png.string() + " in place: " + problem.message());
    return;
  }
  fs::remove(unfinished, problem);
  if (!result.missing) {
    log::warn("gnuplot could not draw " + png.string() + ": " + result.problem);
    return;
  }
  static std::once_flag missing;
  std::call_once(missing, [&] {
    log::warn("gnuplot is not installed (Debian package gnuplot-nox): " + png.filename().string() + " is not drawn");
  });
}

}  // namespace vrwkv
