#include "common/log.h"

#include <gtest/gtest.h>

#include "tests/train/child_process.h"
#include "tests/train/loggers_case.h"

namespace vrwkv::testing {
namespace {

using LogTest = LoggersTest;

TEST_F(LogTest, LogLinesHaveTimeAndLevelAndGoToTheRunsFile) {
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

TEST_F(LogTest, LogNamesAFileThatCannotBeOpened) {
  std::ofstream(folder_ / "file") << "";
  const auto result = run_in_child([&] { log::add_file(folder_ / "file" / "train.log"); });
  EXPECT_NE(result.status, 0);
  EXPECT_NE(result.output.find("cannot log to " + (folder_ / "file" / "train.log").string()), std::string::npos)
      << result.output;
}

}  // namespace
}  // namespace vrwkv::testing
