#include "bench/timer.h"

#include <gtest/gtest.h>

#include <chrono>
#include <stdexcept>
#include <thread>

#include "bench/device_info.h"
#include "tests/support/devices.h"

namespace vrwkv::bench {
namespace {

TEST(Quantile, InterpolatesBetweenSortedValues) {
  EXPECT_DOUBLE_EQ(quantile({3, 1, 2}, 0.5), 2);
  EXPECT_DOUBLE_EQ(quantile({4, 1, 3, 2}, 0.5), 2.5);
  EXPECT_DOUBLE_EQ(quantile({0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100}, 0.1), 10);
  EXPECT_DOUBLE_EQ(quantile({0, 10}, 0.9), 9);
  EXPECT_DOUBLE_EQ(quantile({2, 1}, 0), 1);
  EXPECT_DOUBLE_EQ(quantile({2, 1}, 1), 2);
  EXPECT_DOUBLE_EQ(quantile({7}, 0.9), 7);
  EXPECT_THROW(quantile({}, 0.5), std::logic_error);
}

TEST(Summarize, TakesMedianAndTails) {
  const Timing timing = summarize({5, 1, 2, 3, 4});
  EXPECT_DOUBLE_EQ(timing.median_ms, 3);
  EXPECT_DOUBLE_EQ(timing.p10_ms, 1.4);
  EXPECT_DOUBLE_EQ(timing.p90_ms, 4.6);
  EXPECT_EQ(timing.runs, 5);
}

TEST(Measure, TimesOneCallOfALongFunction) {
  TimerOptions options;
  options.min_seconds = 0.01;
  options.min_runs = 5;
  const auto sleep = [] { std::this_thread::sleep_for(std::chrono::milliseconds(3)); };
  const Timing timing = measure(sleep, at::kCPU, options);
  EXPECT_GE(timing.p10_ms, 3);
  EXPECT_LT(timing.p10_ms, 30);
  EXPECT_LE(timing.p10_ms, timing.median_ms);
  EXPECT_LE(timing.median_ms, timing.p90_ms);
  EXPECT_GE(timing.runs, 5);
}

TEST(Measure, DividesRunsOfShortFunctionsByTheirCalls) {
  TimerOptions options;
  options.min_seconds = 0.01;
  int64_t calls = 0;
  const Timing timing = measure([&] { ++calls; }, at::kCPU, options);
  EXPECT_GE(timing.runs, options.min_runs);
  EXPECT_GT(calls, 100 * timing.runs);
  EXPECT_LT(timing.median_ms, 0.01);
}

TEST(Measure, StopsEarlyWhenCallsAreVeryLong) {
  TimerOptions options;
  options.min_seconds = options.max_seconds = 0.01;
  const Timing timing = measure([] { std::this_thread::sleep_for(std::chrono::milliseconds(10)); }, at::kCPU, options);
  EXPECT_GE(timing.runs, 3);
  EXPECT_LT(timing.runs, options.min_runs);
}

TEST(Measure, TimesTheGpusQueue) {
  for (const at::Device device : testing::devices()) {
    if (device.is_cpu()) continue;
    TimerOptions options;
    options.min_seconds = 0.05;
    for (const bool hide : {false, true}) {
      options.hide_launches = hide;
      const Timing timing = measure([&] { hold_queue(device, 2); }, device, options);
      EXPECT_GT(timing.median_ms, 1.5) << hide;  // the GPU's clock may be off its nominal one
      EXPECT_LT(timing.median_ms, 8) << hide;
    }
  }
}

}  // namespace
}  // namespace vrwkv::bench
