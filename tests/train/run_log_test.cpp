#include "train/loggers/run_log.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/train/event_reader.h"
#include "tests/train/loggers_case.h"

namespace vrwkv::testing {
namespace {

namespace fs = std::filesystem;
using train::RunLog;

class RunLogTest : public LoggersTest {
 protected:
  std::vector<Event> events() const {
    std::vector<Event> all;
    for (const auto& entry : fs::directory_iterator(folder_)) {
      if (!entry.path().filename().string().starts_with("events.")) continue;
      for (const Event& event : events_of(read_text(entry.path()))) all.push_back(event);
    }
    return all;
  }
};

TEST_F(RunLogTest, WritesTheSameNumbersEverywhere) {
  RunLog log(folder_, {}, 0);
  auto metrics = at_step(3);
  metrics.grad_norm = kNan;
  log.write(metrics);
  log.write_evaluation(4, 1, {{"loss", 1.5}, {"top1", 40}});
  EXPECT_EQ(read_text(folder_ / "train.csv"),
            "step,epoch,loss,lr,grad_norm,images_per_s,data_wait\n3,0.75,2.1,0.001,,812,0.03\n");
  EXPECT_EQ(read_text(folder_ / "eval.csv"), "step,epoch,loss,top1\n4,1,1.5,40\n");
  EXPECT_EQ(occurrences(read_text(metrics_), "\"grad_norm\":null"), 1U);
  const auto all = events();
  ASSERT_EQ(all.size(), 4U);
  std::vector<std::string> tags;
  for (const auto& [tag, value] : all[2].scalars) tags.push_back(tag);
  EXPECT_EQ(tags, (std::vector<std::string>{"train/loss", "train/lr", "train/grad_norm", "train/images_per_s",
                                            "train/data_wait"}));
  EXPECT_EQ(all[2].scalars[0].second, 2.1F);
  EXPECT_TRUE(std::isnan(all[2].scalars[2].second));
  EXPECT_EQ(all[3].step, 4);
  EXPECT_EQ(all[3].scalars, (std::vector<std::pair<std::string, float>>{{"eval/loss", 1.5F}, {"eval/top1", 40.0F}}));
}

TEST_F(RunLogTest, WritesOnlyWhatIsAskedFor) {
  RunLog log(folder_, {.csv = false, .tensorboard = false}, 0);
  log.write(at_step(1));
  log.write_evaluation(1, 1, {{"top1", 1}});
  EXPECT_TRUE(fs::exists(metrics_));
  EXPECT_FALSE(fs::exists(folder_ / "train.csv"));
  EXPECT_FALSE(fs::exists(folder_ / "eval.csv"));
  EXPECT_TRUE(events().empty());
}

}  // namespace
}  // namespace vrwkv::testing
