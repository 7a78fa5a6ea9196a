#include "train/loggers/csv_log.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cmath>
#include <csignal>
#include <limits>
#include <random>

#include "tests/train/child_process.h"
#include "tests/train/loggers_case.h"

namespace vrwkv::testing {
namespace {

namespace fs = std::filesystem;
using train::CsvLog;

using CsvLogTest = LoggersTest;

TEST_F(CsvLogTest, HasAHeaderAndARowForEachStepThereAtOnce) {
  const fs::path path = folder_ / "a.csv";
  CsvLog log(path, 0);
  EXPECT_EQ(read_text(path), "step\n");
  log.write(5, {{"epoch", 0.5}, {"loss", 2.25}});
  log.write(10, {{"epoch", 1}, {"loss", -1e-7}});
  EXPECT_EQ(read_text(path), "step,epoch,loss\n5,0.5,2.25\n10,1,-1e-07\n");
}

TEST_F(CsvLogTest, GivesBackEveryBitAndLeavesCellsThatAreNotFiniteEmpty) {
  const fs::path path = folder_ / "a.csv";
  CsvLog log(path, 0);
  std::mt19937_64 random(3);
  for (int64_t step = 1; step <= 500; ++step) {
    const double value = std::ldexp(std::normal_distribution<double>()(random), static_cast<int>(random() % 600) - 300);
    log.write(step, {{"x", value}});
    std::string text = read_text(path);
    text.pop_back();
    EXPECT_EQ(std::strtod(text.c_str() + text.rfind(',') + 1, nullptr), value);
  }
  const double infinity = std::numeric_limits<double>::infinity();
  log.write(501, {{"x", kNan}, {"y", infinity}, {"z", -infinity}});
  EXPECT_TRUE(read_text(path).ends_with("\n501,,,\n"));
}

TEST_F(CsvLogTest, OfAResumedRunReadsAsIfItHadNeverStopped) {
  const fs::path path = folder_ / "a.csv";
  {
    CsvLog log(path, 0);
    for (int64_t step = 1; step <= 6; ++step) log.write(step, {{"x", 1.5}, {"y", kNan}});
  }
  std::ofstream(path, std::ios::app) << "no row\n3\n2,1,1,1\n4,1.";
  CsvLog log(path, 4);
  log.write(5, {{"x", 2.5}, {"y", 0}});
  EXPECT_EQ(read_text(path), "step,x,y\n1,1.5,\n2,1.5,\n3,1.5,\n4,1.5,\n5,2.5,0\n");
  std::ofstream(path, std::ios::trunc) << "step,x";  // Killed within the header.
  CsvLog torn(path, 4);
  torn.write(5, {{"x", 1}});
  EXPECT_EQ(read_text(path), "step,x\n5,1\n");
}

TEST_F(CsvLogTest, AddsAColumnThatComesLater) {
  const fs::path path = folder_ / "a.csv";
  CsvLog log(path, 0);
  log.write(1, {{"b", 1}});
  log.write(2, {{"a", 2}, {"b", 3}, {"c", 4}});
  log.write(3, {{"c", 5}});
  EXPECT_EQ(read_text(path), "step,b,a,c\n1,1,,\n2,3,2,4\n3,,,5\n");
}

TEST_F(CsvLogTest, NamesTheFileThatCannotBeReadOrWritten) {
  try {
    CsvLog log(folder_, 0);
    FAIL() << "opened a folder";
  } catch (const std::runtime_error& error) {
    EXPECT_NE(std::string(error.what()).find(folder_.string()), std::string::npos) << error.what();
  }
  const fs::path path = folder_ / "a.csv";
  const auto result = run_in_child([&] {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{1000, 1000};
    if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) throw std::logic_error("cannot limit the file size");
    CsvLog log(path, 0);
    for (int64_t step = 0; step < 500; ++step) log.write(step, {{"x", 0.1}});
  });
  EXPECT_NE(result.status, 0);
  EXPECT_EQ(result.output, "cannot write " + path.string() + ": File too large");
}

}  // namespace
}  // namespace vrwkv::testing
