#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <limits>
#include <sstream>
#include <string>

#include "train/loggers/metrics_log.h"

namespace vrwkv::testing {

inline constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

inline std::string read_text(const std::filesystem::path& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

inline size_t occurrences(const std::string& text, const std::string& part) {
  size_t count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + part.size())) ++count;
  return count;
}

/// A folder for each test.
class LoggersTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto* test = ::testing::UnitTest::GetInstance()->current_test_info();
    folder_ = std::filesystem::temp_directory_path() /
              ("vrwkv-" + std::string(test->test_suite_name()) + "-" + test->name() + "-" + std::to_string(::getpid()));
    std::filesystem::create_directories(folder_);
    metrics_ = folder_ / "metrics.jsonl";
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::filesystem::path folder_, metrics_;
};

inline train::StepMetrics at_step(int64_t step) {
  return {.step = step,
          .epoch = 0.25 * static_cast<double>(step),
          .loss = 2.1,
          .lr = 0.001,
          .grad_norm = 3.2,
          .images_per_s = 812.0,
          .data_wait = 0.03};
}

}  // namespace vrwkv::testing
