#include "train/loggers/tensorboard.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <chrono>
#include <cmath>
#include <csignal>
#include <random>
#include <set>

#include "tests/train/child_process.h"
#include "tests/train/event_reader.h"
#include "tests/train/loggers_case.h"
#include "train/loggers/crc32c.h"

namespace vrwkv::testing {
namespace {

namespace fs = std::filesystem;
using train::TensorboardLog;

TEST(Crc32cTest, GivesTheValuesOfTheStandardAndThoseOfTheDefinition) {
  EXPECT_EQ(train::crc32c(""), 0U);
  EXPECT_EQ(train::crc32c("123456789"), 0xE3069283U);
  // RFC 3720, appendix B.4.
  std::string up, down;
  for (int i = 0; i < 32; ++i) {
    up += static_cast<char>(i);
    down += static_cast<char>(31 - i);
  }
  EXPECT_EQ(train::crc32c(std::string(32, '\0')), 0x8A9136AAU);
  EXPECT_EQ(train::crc32c(std::string(32, '\xFF')), 0x62A8AB43U);
  EXPECT_EQ(train::crc32c(up), 0x46DD794EU);
  EXPECT_EQ(train::crc32c(down), 0x113FDB5CU);
  std::mt19937 random(1);
  for (int i = 0; i < 200; ++i) {
    std::string bytes(random() % 300, '\0');
    for (char& c : bytes) c = static_cast<char>(random());
    EXPECT_EQ(train::crc32c(bytes), crc32c_by_bits(bytes)) << bytes.size();
  }
}

class TensorboardTest : public LoggersTest {
 protected:
  std::set<fs::path> files() const {
    std::set<fs::path> all;
    for (const auto& entry : fs::directory_iterator(folder_)) all.insert(entry.path());
    return all;
  }
};

TEST_F(TensorboardTest, EventsReadBackWithTheirChecksums) {
  using Clock = std::chrono::system_clock;
  const auto now = [] { return std::chrono::duration<double>(Clock::now().time_since_epoch()).count(); };
  const double before = now();
  TensorboardLog log(folder_, 0);
  const std::string long_tag(300, 't');
  log.write(1, {{"train/loss", 0.1}, {long_tag, -2.5e30}});
  log.write(1'000'000'000'000, {{"train/loss", kNan}, {"", 1e300}});
  ASSERT_EQ(files().size(), 1U);  // Read while the log is still open: all is there at once.
  const auto events = events_of(read_text(*files().begin()));
  ASSERT_EQ(events.size(), 4U);
  EXPECT_EQ(events[0].version, "brain.Event:2");
  EXPECT_TRUE(events[1].starts);
  EXPECT_EQ(events[1].step, 1);
  EXPECT_EQ(events[2].step, 1);
  const std::vector<std::pair<std::string, float>> expected{{"train/loss", 0.1F}, {long_tag, -2.5e30F}};
  EXPECT_EQ(events[2].scalars, expected);
  EXPECT_EQ(events[3].step, 1'000'000'000'000);
  EXPECT_TRUE(std::isnan(events[3].scalars.at(0).second));
  EXPECT_TRUE(std::isinf(events[3].scalars.at(1).second));  // Beyond float32.
  for (const Event& event : events) {
    EXPECT_GE(event.wall_time, before);
    EXPECT_LE(event.wall_time, now());
  }
}

TEST_F(TensorboardTest, AResumedRunStartsALaterFileThatVoidsWhatIsBeyondItsStep) {
  std::vector<int64_t> starts;
  for (const int64_t step : {0, 4, 4, 2}) {
    TensorboardLog log(folder_, step);  // All within a second, and yet the names are in order.
    log.write(step + 1, {{"x", 1}});
  }
  for (const fs::path& file : files()) {
    EXPECT_TRUE(file.filename().string().starts_with("events.out.tfevents.")) << file;
    const auto events = events_of(read_text(file));
    ASSERT_EQ(events.size(), 3U);
    EXPECT_TRUE(events[1].starts);
    starts.push_back(events[1].step);
  }
  EXPECT_EQ(starts, (std::vector<int64_t>{1, 5, 5, 3}));
}

TEST_F(TensorboardTest, NamesTheFileThatCannotBeWritten) {
  const auto result = run_in_child([&] {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{1000, 1000};
    if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) throw std::logic_error("cannot limit the file size");
    TensorboardLog log(folder_, 0);
    for (int64_t step = 0; step < 100; ++step) log.write(step, {{"x", 1}});
  });
  EXPECT_NE(result.status, 0);
  EXPECT_EQ(result.output, "cannot write " + files().begin()->string() + ": File too large");
}

}  // namespace
}  // namespace vrwkv::testing
