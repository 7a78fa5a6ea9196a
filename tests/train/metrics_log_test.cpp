#include "train/loggers/metrics_log.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <nlohmann/json.hpp>
#include <vector>

#include "tests/train/child_process.h"
#include "tests/train/loggers_case.h"

namespace vrwkv::testing {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using train::MetricsLog;
using train::StepMetrics;

class MetricsLogTest : public LoggersTest {
 protected:
  std::vector<json> lines() const {
    std::vector<json> all;
    std::istringstream text(read_text(metrics_));
    for (std::string line; std::getline(text, line);) all.push_back(json::parse(line));
    return all;
  }
};

TEST_F(MetricsLogTest, MetricsAreOneObjectALineAndThereAtOnce) {
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

TEST_F(MetricsLogTest, MetricsKeepEveryBitOfANumberAndStayJsonForNan) {
  MetricsLog log(metrics_, 0);
  StepMetrics metrics = at_step(1);
  metrics.loss = 0.1 + 0.2;
  metrics.grad_norm = kNan;
  log.write(metrics);
  EXPECT_EQ(lines().at(0)["loss"].get<double>(), 0.1 + 0.2);
  EXPECT_TRUE(lines().at(0)["grad_norm"].is_null());
}

TEST_F(MetricsLogTest, MetricsOfAResumedRunReadAsIfItHadNeverStopped) {
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

TEST_F(MetricsLogTest, MetricsNameTheFileThatCannotBeReadOrWritten) {
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

}  // namespace
}  // namespace vrwkv::testing
