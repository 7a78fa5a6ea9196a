#include "train/loggers/learning_curves.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <vector>

#include "tests/train/child_process.h"
#include "tests/train/loggers_case.h"

namespace vrwkv::testing {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

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
  EXPECT_EQ(rows_of(script, "train"), (std::vector<std::string>{"0.5 2.5 0.001 5.7 NaN ", "1 NaN 0.001 NaN NaN "}));
  EXPECT_EQ(rows_of(script, "eval"), (std::vector<std::string>{"1 2.25 40 90 NaN "}));
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

TEST(LearningCurvesTest, TheMovingAverageHasACurveOfItsOwn) {
  const std::string without = eval_line(1, 2.5, 40, 90);
  const std::string with = json{{"kind", "eval"}, {"epoch", 2}, {"top1", 41}, {"ema_top1", 45}}.dump() + "\n";
  const std::string script = train::learning_curves_script(without + with, "run");
  EXPECT_EQ(rows_of(script, "eval"), (std::vector<std::string>{"1 2.5 40 90 NaN ", "2 NaN 41 NaN 45 "}));
  EXPECT_EQ(occurrences(script, "top-1 of the moving average"), 1U);
  EXPECT_EQ(occurrences(train::learning_curves_script(without, "run"), "moving average"), 0U);
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

TEST(LearningCurvesTest, TheShareOfTimeSpentWaitingHasAPanel) {
  const std::string line = R"({"kind":"train","step":1,"epoch":1,"data_wait":0.125})";
  const std::string script = train::learning_curves_script(line + "\n", "run");
  EXPECT_EQ(rows_of(script, "train"), (std::vector<std::string>{"1 NaN NaN NaN 0.125 "}));
  EXPECT_EQ(occurrences(script, "\nplot "), 1U);
  EXPECT_NE(script.find("plot $train using 1:(100*$5)"), std::string::npos) << script;
}

TEST(LearningCurvesTest, WhatIsNotFiniteIsAGap) {
  const std::string lines = R"({"kind":"train","step":1,"epoch":1,"loss":2,"lr":1,"grad_norm":3,"data_wait":0}
{"kind":"train","step":2,"epoch":2,"loss":null,"lr":1,"grad_norm":null,"data_wait":0.5}
)";
  EXPECT_EQ(rows_of(train::learning_curves_script(lines, "run"), "train"),
            (std::vector<std::string>{"1 2 1 3 0 ", "2 NaN 1 NaN 0.5 "}));
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
      {"waiting and nulls", R"({"kind":"train","step":1,"epoch":1,"loss":null,"grad_norm":null,"data_wait":1})"},
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
