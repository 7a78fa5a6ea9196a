#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <exception>
#include <functional>
#include <stdexcept>
#include <string>

namespace vrwkv::testing {

/// How a child process ended.
struct ChildResult {
  int status = 0;      ///< As waitpid gives it; 0: all went well.
  std::string output;  ///< What it wrote to stderr, an exception's message included.
};

/// Reads to the end. A terminal whose other side is closed gives EIO there.
inline std::string read_all(int descriptor) {
  std::string text;
  std::array<char, 4096> buffer{};
  for (;;) {
    const ssize_t count = ::read(descriptor, buffer.data(), buffer.size());
    if (count > 0) text.append(buffer.data(), static_cast<size_t>(count));
    if (count == 0 || (count < 0 && errno != EINTR)) return text;
  }
}

/// Forks; the child runs `action` with stderr on `stderr_descriptor` (if that is not negative) and exits with 0, or
/// with 1 for an exception. It must keep to what needs no second thread, as a fork copies only one.
inline pid_t start_child(const std::function<void()>& action, int stderr_descriptor = -1) {
  const pid_t child = ::fork();
  if (child < 0) throw std::runtime_error("cannot fork");
  if (child > 0) return child;
  if (stderr_descriptor >= 0) ::dup2(stderr_descriptor, STDERR_FILENO);
  try {
    action();
    std::fflush(stderr);
    ::_exit(0);
  } catch (const std::exception& error) {
    std::fputs(error.what(), stderr);
    std::fflush(stderr);
    ::_exit(1);
  }
}

inline int wait_for(pid_t child) {
  int status = 0;
  while (::waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) throw std::runtime_error("cannot wait for a child process");
  }
  return status;
}

/// Runs `action` in a child process to its end, with stderr in a pipe.
inline ChildResult run_in_child(const std::function<void()>& action) {
  std::array<int, 2> pipe{};
  if (::pipe(pipe.data()) != 0) throw std::runtime_error("cannot make a pipe");
  const pid_t child = start_child(action, pipe[1]);
  ::close(pipe[1]);
  ChildResult result;
  result.output = read_all(pipe[0]);
  ::close(pipe[0]);
  result.status = wait_for(child);
  return result;
}

}  // namespace vrwkv::testing
