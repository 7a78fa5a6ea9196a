#include "train/loggers/progress.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <thread>
#include <vector>

#include "common/log.h"
#include "common/progress_line.h"
#include "tests/train/child_process.h"
#include "tests/train/loggers_case.h"

namespace vrwkv::testing {
namespace {

TEST(ProgressTest, DurationsAreShort) {
  const std::vector<std::pair<double, const char*>> cases{
      {0, "0:00"},       {59.4, "0:59"},        {59.6, "1:00"}, {61, "1:01"},   {3599.6, "1:00:00"},
      {3661, "1:01:01"}, {360000, "100:00:00"}, {-1, "-:--"},   {kNan, "-:--"}, {1e300, "-:--"}};
  for (const auto& [seconds, expected] : cases) EXPECT_EQ(format_duration(seconds), expected) << seconds;
}

TEST(ProgressTest, TheLineFitsEveryWidth) {
  const std::vector<std::string> fields{"12.5%", "epoch 1/8", "loss 2.1"};
  const std::string text = "12.5%  epoch 1/8  loss 2.1";
  EXPECT_EQ(progress_line(0.5, fields, 200), "[##########..........]  " + text);
  EXPECT_EQ(progress_line(0.5, fields, 41), "[#####.....]  " + text);
  EXPECT_EQ(progress_line(0.5, fields, 30), text);  // No room for a bar.
  EXPECT_EQ(progress_line(0.5, fields, 27), text);
  EXPECT_EQ(progress_line(0.5, fields, 26), "12.5%  epoch 1/8");
  EXPECT_EQ(progress_line(0.5, fields, 6), "12.5%");
  EXPECT_EQ(progress_line(2, fields, 200), "[####################]  " + text);
  EXPECT_EQ(progress_line(-1, fields, 200), "[....................]  " + text);
  for (int64_t width = 0; width < 120; ++width) {
    EXPECT_LE(std::ssize(progress_line(0.3, fields, width)), std::max<int64_t>(width - 1, 0)) << width;
  }
}

TEST(ProgressTest, WritesPlainLinesWithoutATerminal) {
  const auto result = run_in_child([] {
    train::Progress progress(2, 8, 4);
    for (int64_t step = 5; step <= 16; ++step) {
      if (step % 4 == 0) {
        progress.update(at_step(step));
      } else {
        progress.advance(step);
      }
    }
    progress.finish();
  });
  EXPECT_EQ(occurrences(result.output, "\n"), 3U) << result.output;
  EXPECT_EQ(occurrences(result.output, "\r") + occurrences(result.output, "\033"), 0U) << result.output;
  EXPECT_NE(
      result.output.find("info 50.0%  epoch 2/2  step 8/16  loss 2.1000  ETA 0:00  812.0 images/s  lr 1.00e-03\n"),
      std::string::npos)
      << result.output;
  EXPECT_NE(result.output.find("100.0%  epoch 2/2  step 16/16"), std::string::npos) << result.output;
}

/// What a terminal shows after `output`: enough of one for our line. Colours are dropped.
std::vector<std::string> screen_of(const std::string& output, size_t width, size_t* redraws) {
  std::vector<std::string> screen{""};
  size_t column = 0;
  *redraws = 0;
  for (size_t i = 0; i < output.size(); ++i) {
    std::string& line = screen.back();
    if (output[i] == '\r') {
      column = 0;
    } else if (output[i] == '\n') {
      screen.emplace_back();
      column = 0;
    } else if (output.compare(i, 3, "\033[K") == 0) {
      line.resize(column);
      ++*redraws;
      i += 2;
    } else if (output[i] == '\033') {
      i = output.find('m', i);
    } else {
      EXPECT_LT(column, width) << "the line wraps: " << line;
      line.resize(std::max(line.size(), column + 1), ' ');
      line[column++] = output[i];
    }
  }
  return screen;
}

/// Runs `action` in a child whose stderr is a terminal of `width` columns; returns all that it wrote.
std::string on_terminal(unsigned short width, const std::function<void()>& action) {
  const int terminal = ::posix_openpt(O_RDWR | O_NOCTTY);
  if (terminal < 0 || ::grantpt(terminal) != 0 || ::unlockpt(terminal) != 0) return "";
  const int side = ::open(::ptsname(terminal), O_RDWR | O_NOCTTY);
  winsize size{};
  size.ws_row = 24;
  size.ws_col = width;
  ::ioctl(side, TIOCSWINSZ, &size);
  const pid_t child = start_child(
      [&] {
        ::setenv("TERM", "xterm", 1);
        action();
      },
      side);
  ::close(side);
  const std::string output = read_all(terminal);
  ::close(terminal);
  wait_for(child);
  return output;
}

TEST(ProgressTest, RedrawsOneLineOfATerminalBelowTheLog) {
  const auto start = std::chrono::steady_clock::now();
  const std::string output = on_terminal(70, [] {
    train::Progress progress(1, 1000, 0);
    for (int64_t step = 1; step <= 1000; ++step) {
      if (step % 50 == 0) {
        progress.update(at_step(step));
      } else {
        progress.advance(step);
      }
      if (step == 400) log::warn("corrupt image skipped");
      if (step == 500) log::debug("not shown");
      std::this_thread::sleep_for(std::chrono::microseconds(500));
    }
    progress.finish();
    log::info("the end");
  });
  if (output.empty()) GTEST_SKIP() << "no pseudo-terminal can be opened here";
  size_t redraws = 0;
  const auto screen = screen_of(output, 70, &redraws);
  ASSERT_EQ(screen.size(), 4U) << output;
  EXPECT_TRUE(screen[0].ends_with("corrupt image skipped")) << screen[0];
  EXPECT_NE(screen[1].find("100.0%  epoch 1/1  step 1000/1000  loss 2.1000  ETA 0:00"), std::string::npos) << screen[1];
  EXPECT_TRUE(screen[2].ends_with("the end")) << screen[2];
  EXPECT_EQ(screen[3], "");
  EXPECT_GE(redraws, 4U);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  EXPECT_LE(static_cast<double>(redraws), 10 * seconds + 4) << "more than ten a second";
}

TEST(ProgressTest, AnErrorStartsOnALineOfItsOwn) {
  const std::string output = on_terminal(70, [] {
    train::Progress progress(1, 1000, 0);
    progress.update(at_step(1));
    throw std::runtime_error("the loss is nan");
  });
  if (output.empty()) GTEST_SKIP() << "no pseudo-terminal can be opened here";
  size_t redraws = 0;
  EXPECT_EQ(screen_of(output, 70, &redraws).back(), "the loss is nan") << output;
}

}  // namespace
}  // namespace vrwkv::testing
