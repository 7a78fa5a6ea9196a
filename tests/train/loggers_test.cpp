#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>
#include <vector>

#include "common/log.h"
#include "tests/train/child_process.h"
#include "train/loggers/learning_curves.h"
#include "train/loggers/metrics_log.h"
#include "train/loggers/progress.h"

namespace vrwkv::testing {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using train::MetricsLog;
using train::StepMetrics;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

std::string read_text(const fs::path& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

size_t occurrences(const std::string& text, const std::string& part) {
  size_t count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + part.size())) ++count;
  return count;
}

class LoggersTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string name = ::testing::UnitTest::GetInstance()->current_test_info()->name();
    folder_ = fs::temp_directory_path() / ("vrwkv-loggers-" + name + "-" + std::to_string(::getpid()));
    fs::create_directories(folder_);
    metrics_ = folder_ / "metrics.jsonl";
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::vector<json> lines() const {
    std::vector<json> all;
    std::istringstream text(read_text(metrics_));
    for (std::string line; std::getline(text, line);) all.push_back(json::parse(line));
    return all;
  }

  fs::path folder_, metrics_;
};

StepMetrics at_step(int64_t step) {
  return {.step = step,
          .epoch = 0.25 * static_cast<double>(step),
          .loss = 2.1,
          .lr = 0.001,
          .grad_norm = 3.2,
          .images_per_s = 812.0,
          .data_wait = 0.03};
}

// ---- metrics.jsonl

TEST_F(LoggersTest, MetricsAreOneObjectALineAndThereAtOnce) {
  MetricsLog log(metrics_, 0);
  log.write(at_step(5));
  EXPECT_EQ(read_text(metrics_),
            "{\"kind\":\"train\",\"step\":5,\"epoch\":1.25,\"loss\":2.1,\"lr\":0.001,\"grad_norm\":3.2,"
            "\"images_per_s\":812.0,\"data_wait\":0.03}\n");
  log.write_evaluation(100, 2, {{"loss", 1.9}, {"top1", 43.21}, {"top5", 91.2}, {"images", 360}});
  const json expected = {{"kind", "eval"}, {"step", 100},  {"epoch", 2},   {"loss", 1.9},
                         {"top1", 43.21},  {"top5", 91.2}, {"images", 360}};
  EXPECT_EQ(lines().at(1), expected);
}

TEST_F(LoggersTest, MetricsKeepEveryBitOfANumberAndStayJsonForNan) {
  MetricsLog log(metrics_, 0);
  StepMetrics metrics = at_step(1);
  metrics.loss = 0.1 + 0.2;
  metrics.grad_norm = kNan;
  log.write(metrics);
  EXPECT_EQ(lines().at(0)["loss"].get<double>(), 0.1 + 0.2);
  EXPECT_TRUE(lines().at(0)["grad_norm"].is_null());
}

TEST_F(LoggersTest, MetricsOfAResumedRunReadAsIfItHadNeverStopped) {
  {
    MetricsLog log(metrics_, 0);
    for (int64_t step = 1; step <= 6; ++step) log.write(at_step(step));
    log.write_evaluation(4, 1, {{"top1", 50}});
    log.write_evaluation(6, 2, {{"top1", 60}});
  }
  std::ofstream(metrics_, std::ios::app) << "not json\n{\"kind\":\"train\",\"st";
  MetricsLog log(metrics_, 4);
  log.write(at_step(5));
  std::vector<std::pair<std::string, int64_t>> found;
  for (const auto& line : lines()) found.emplace_back(line["kind"], line["step"]);
  const std::vector<std::pair<std::string, int64_t>> expected{{"train", 1}, {"train", 2}, {"train", 3},
                                                              {"train", 4}, {"eval", 4},  {"train", 5}};
  EXPECT_EQ(found, expected);
  MetricsLog fresh(metrics_, 0);
  EXPECT_EQ(read_text(metrics_), "");
}

TEST_F(LoggersTest, MetricsNameTheFileThatCannotBeReadOrWritten) {
  fs::create_directories(metrics_);
  try {
    MetricsLog log(metrics_, 0);
    FAIL() << "opened a folder";
  } catch (const std::runtime_error& error) {
    EXPECT_NE(std::string(error.what()).find(metrics_.string()), std::string::npos) << error.what();
  }
  const fs::path other = folder_ / "other.jsonl";
  const auto result = run_in_child([&] {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{1000, 1000};
    if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) throw std::logic_error("cannot limit the file size");
    MetricsLog log(other, 0);
    for (int64_t step = 0; step < 100; ++step) log.write(at_step(step));
  });
  EXPECT_NE(result.status, 0);
  EXPECT_EQ(result.output, "cannot write " + other.string() + ": File too large");
  MetricsLog resumed(other, 3);  // The torn last line is no obstacle.
  EXPECT_EQ(occurrences(read_text(other), "\n"), 4U);
}

// ---- progress

TEST(ProgressTest, DurationsAreShort) {
  const std::vector<std::pair<double, const char*>> cases{
      {0, "0:00"},       {59.4, "0:59"},        {59.6, "1:00"}, {61, "1:01"},   {3599.6, "1:00:00"},
      {3661, "1:01:01"}, {360000, "100:00:00"}, {-1, "-:--"},   {kNan, "-:--"}, {1e300, "-:--"}};
  for (const auto& [seconds, expected] : cases) EXPECT_EQ(train::format_duration(seconds), expected) << seconds;
}

TEST(ProgressTest, TheLineFitsEveryWidth) {
  const std::vector<std::string> fields{"12.5%", "epoch 1/8", "loss 2.1"};
  const std::string text = "12.5%  epoch 1/8  loss 2.1";
  EXPECT_EQ(train::progress_line(0.5, fields, 200), "[##########..........]  " + text);
  EXPECT_EQ(train::progress_line(0.5, fields, 41), "[#####.....]  " + text);
  EXPECT_EQ(train::progress_line(0.5, fields, 30), text);  // No room for a bar.
  EXPECT_EQ(train::progress_line(0.5, fields, 27), text);
  EXPECT_EQ(train::progress_line(0.5, fields, 26), "12.5%  epoch 1/8");
  EXPECT_EQ(train::progress_line(0.5, fields, 6), "12.5%");
  EXPECT_EQ(train::progress_line(2, fields, 200), "[####################]  " + text);
  EXPECT_EQ(train::progress_line(-1, fields, 200), "[....................]  " + text);
  for (int64_t width = 0; width < 120; ++width) {
    EXPECT_LE(std::ssize(train::progress_line(0.3, fields, width)), std::max<int64_t>(width - 1, 0)) << width;
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

// ---- log

TEST_F(LoggersTest, LogLinesHaveTimeAndLevelAndGoToTheRunsFile) {
  const auto result = run_in_child([&] {
    log::debug("hidden");
    log::info("before {} the file");
    log::add_file(folder_ / "first.log");
    log::warn("one");
    log::add_file(folder_ / "second.log");
    log::set_level(log::Level::debug);
    log::debug("two");
    log::set_level(log::Level::error);
    log::warn("hidden");
    log::error("three");
  });
  EXPECT_EQ(result.status, 0);
  EXPECT_EQ(occurrences(result.output, "\n"), 4U) << result.output;
  EXPECT_EQ(result.output.find("hidden"), std::string::npos);
  EXPECT_EQ(result.output.substr(2, 1) + result.output.substr(5, 1), "::");
  EXPECT_EQ(result.output.substr(8, 25), " info before {} the file\n");
  EXPECT_EQ(occurrences(read_text(folder_ / "first.log"), "\n"), 1U);
  EXPECT_NE(read_text(folder_ / "first.log").find("warning one\n"), std::string::npos);
  const std::string second = read_text(folder_ / "second.log");
  EXPECT_EQ(occurrences(second, "\n"), 2U) << second;
  EXPECT_NE(second.find("debug two\n"), std::string::npos) << second;
  EXPECT_NE(second.find("error three\n"), std::string::npos) << second;
}

TEST_F(LoggersTest, LogNamesAFileThatCannotBeOpened) {
  std::ofstream(folder_ / "file") << "";
  const auto result = run_in_child([&] { log::add_file(folder_ / "file" / "train.log"); });
  EXPECT_NE(result.status, 0);
  EXPECT_NE(result.output.find("cannot log to " + (folder_ / "file" / "train.log").string()), std::string::npos)
      << result.output;
}

// ---- learning curves

std::string train_line(int64_t step, double epoch, double loss) {
  return json{{"kind", "train"}, {"step", step}, {"epoch", epoch},
              {"loss", loss},    {"lr", 1e-3},   {"grad_norm", 3.2 + loss}}
             .dump() +
         "\n";
}
std::string eval_line(double epoch, double loss, double top1, double top5) {
  return json{{"kind", "eval"}, {"step", 1}, {"epoch", epoch}, {"loss", loss}, {"top1", top1}, {"top5", top5}}.dump() +
         "\n";
}

/// The rows of a data block of a script.
std::vector<std::string> rows_of(const std::string& script, const std::string& block) {
  const std::string start = "$" + block + " << EOD\n";
  const size_t begin = script.find(start);
  if (begin == std::string::npos) return {};
  std::istringstream text(script.substr(begin + start.size()));
  std::vector<std::string> rows;
  for (std::string row; std::getline(text, row) && row != "EOD";) rows.push_back(row);
  return rows;
}

TEST(LearningCurvesTest, TheScriptHoldsTheNumbersOfTheLog) {
  const std::string script =
      train::learning_curves_script(train_line(1, 0.5, 2.5) + "torn {\n" + train_line(2, 1, kNan) +
                                        eval_line(1, 2.25, 40, 90) + "[1]\n{\"kind\":7}\n",
                                    "a \"run\" \\n");
  EXPECT_EQ(rows_of(script, "train"), (std::vector<std::string>{"0.5 2.5 0.001 5.7 ", "1 NaN 0.001 NaN "}));
  EXPECT_EQ(rows_of(script, "eval"), (std::vector<std::string>{"1 2.25 40 90 "}));
  EXPECT_NE(script.find("\"a \\\"run\\\" \\\\n\""), std::string::npos) << script;
  EXPECT_EQ(occurrences(script, "\nplot "), 3U);
}

TEST(LearningCurvesTest, PanelsWithoutValuesAreLeftOut) {
  EXPECT_EQ(train::learning_curves_script("", "run"), "");
  EXPECT_EQ(train::learning_curves_script("torn {\n", "run"), "");
  EXPECT_EQ(train::learning_curves_script(eval_line(1, kNan, kNan, kNan), "run"), "");
  EXPECT_EQ(occurrences(train::learning_curves_script(train_line(1, 1, 2), "run"), "\nplot "), 2U);
  const std::string eval_only = train::learning_curves_script(eval_line(1, kNan, 50, kNan), "run");
  EXPECT_EQ(occurrences(eval_only, "\nplot "), 1U);
  EXPECT_EQ(occurrences(eval_only, "top-5"), 0U);
}

TEST(LearningCurvesTest, ManyPointsAreAveraged) {
  std::string text;
  for (int64_t i = 0; i < 2500; ++i)
    text += train_line(i, static_cast<double>(i), i % 5 == 0 ? kNan : static_cast<double>(i));
  const auto rows = rows_of(train::learning_curves_script(text, "run"), "train");
  ASSERT_EQ(rows.size(), 834U);               // Groups of three.
  EXPECT_EQ(rows[0].substr(0, 6), "1 1.5 ");  // The mean of 1 and 2; 0 has no loss.
  EXPECT_EQ(rows[833].substr(0, 10), "2499 2499 ");
}

class DrawTest : public LoggersTest {
 protected:
  /// Draws in a child process, as a once-only warning must not depend on other tests.
  ChildResult draw(const std::string& metrics) {
    std::ofstream(metrics_) << metrics;
    return run_in_child([&] {
      if (!path_.empty()) ::setenv("PATH", path_.c_str(), 1);
      train::draw_learning_curves(folder_);
      train::draw_learning_curves(folder_);
    });
  }
  fs::path png() const { return folder_ / "learning_curves.png"; }

  std::string path_;  ///< Where programs are looked for, if not empty.
};

TEST_F(DrawTest, DrawsWhateverTheLogHolds) {
  if (std::system("gnuplot --version > /dev/null 2>&1") != 0) GTEST_SKIP() << "gnuplot is not installed";
  std::string many;
  for (int64_t i = 1; i <= 100'000; ++i) {
    many += train_line(50 * i, 0.003 * static_cast<double>(i), 7 / std::sqrt(static_cast<double>(i)));
  }
  const std::vector<std::pair<const char*, std::string>> cases{
      {"one step", train_line(1, 0.001, 6.9)},
      {"one evaluation", eval_line(1, 2, 50, 100)},
      {"one of each", train_line(1, 1, 2) + eval_line(1, 2, 100, 100)},
      {"zeros", train_line(0, 0, 0) + eval_line(0, 0, 0, 0)},
      {"nothing finite but the rate", train_line(1, 1, kNan) + train_line(2, 2, kNan)},
      {"gaps", train_line(1, 1, 2) + train_line(2, 2, kNan) + train_line(3, 3, 1e30) + eval_line(1, kNan, kNan, 5)},
      {"many", many}};
  for (const auto& [name, metrics] : cases) {
    fs::remove(png());
    const auto result = draw(metrics);
    EXPECT_EQ(result.status, 0) << name;
    EXPECT_EQ(result.output, "") << name;
    const std::string picture = read_text(png());
    EXPECT_TRUE(picture.starts_with("\x89PNG\r\n\x1A\n")) << name;
    EXPECT_NE(picture.find("IEND"), std::string::npos) << name;
    EXPECT_GT(picture.size(), 10'000U) << name;
    EXPECT_FALSE(fs::exists(png().string() + ".tmp")) << name;
  }
  fs::remove(png());
  EXPECT_EQ(draw("").output, "");
  EXPECT_FALSE(fs::exists(png()));
}

TEST_F(DrawTest, WarnsOnceWithoutGnuplot) {
  path_ = folder_.string();
  const auto result = draw(train_line(1, 1, 2));
  EXPECT_EQ(result.status, 0);
  EXPECT_EQ(occurrences(result.output, "\n"), 1U) << result.output;
  EXPECT_NE(result.output.find("gnuplot-nox"), std::string::npos) << result.output;
  EXPECT_FALSE(fs::exists(png().string() + ".tmp"));
}

TEST_F(DrawTest, TheTitleIsTheRunsNameHoweverItsFolderIsWritten) {
  std::ofstream(metrics_) << train_line(1, 1, 2);
  fs::create_directories(folder_ / "x");
  for (const fs::path& written : {folder_, folder_ / "", folder_ / "x" / ".."}) {
    fs::remove(folder_ / "learning_curves.gnuplot");
    run_in_child([&] { train::draw_learning_curves(written); });
    EXPECT_NE(read_text(folder_ / "learning_curves.gnuplot").find("title \"" + folder_.filename().string() + "\""),
              std::string::npos)
        << written;
  }
}

TEST_F(DrawTest, AFailingGnuplotIsAWarningThatSaysWhyAndKeepsTheFormerPicture) {
  path_ = folder_.string();
  const fs::path program = folder_ / "gnuplot";
  std::ofstream(program) << "#!/bin/sh\necho half a picture\necho >&2\necho 'line 3: unknown terminal' >&2\nexit 1\n";
  fs::permissions(program, fs::perms::owner_all);
  std::ofstream(png()) << "former";
  const auto result = draw(train_line(1, 1, 2));
  EXPECT_EQ(result.status, 0);
  EXPECT_EQ(occurrences(result.output, png().string() + ": line 3: unknown terminal\n"), 2U) << result.output;
  EXPECT_EQ(read_text(png()), "former");
  EXPECT_FALSE(fs::exists(png().string() + ".tmp"));
}

}  // namespace
}  // namespace vrwkv::testing
