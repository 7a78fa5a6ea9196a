#include "bench/network_bench.h"

#include <gtest/gtest.h>

#include <new>

#include "tests/support/devices.h"

namespace vrwkv::bench {
namespace {

Step alone(const NetworkCase& network, const eval::Precision& precision) { return make_train_step(network, precision); }

TimerOptions quick() {
  TimerOptions options;
  options.warmup_calls = 1;
  options.min_runs = 1;
  options.min_seconds = options.max_seconds = 1e-3;
  return options;
}

TEST(MeasureNetwork, RunsInferenceAndTrainingInEveryPrecision) {
  const NetworkCase network{"tiny", 32, 2};
  for (const at::Device device : testing::devices()) {
    for (const auto dtype : {config::Dtype::float32, config::Dtype::bfloat16}) {
      for (const StepFactory& factory : {StepFactory(make_model_step), StepFactory(alone)}) {
        const NetworkResult result =
            measure_network(network, {device, dtype}, factory, GraphMode::automatic, quick(), false);
        ASSERT_TRUE(result.timing);
        EXPECT_GT(*result.images_per_s(), 0);
        EXPECT_EQ(result.peak_bytes.has_value(), device.is_cuda());
      }
    }
  }
}

TEST(MeasureNetwork, OutOfMemoryIsARowAndNotTheEnd) {
  const StepFactory factory = [](const NetworkCase&, const eval::Precision&) -> Step { throw std::bad_alloc(); };
  const NetworkResult result = measure_network({"tiny", 224, 7}, {at::kCPU, config::Dtype::float32}, factory,
                                               GraphMode::automatic, quick(), false);
  EXPECT_FALSE(result.timing);
  EXPECT_EQ(network_table({result}, "float32").text(),
            "variant  side px  batch  dtype    step ms  images/s  peak memory GB  graph\n"
            "tiny         224      7  float32        -         -               -  no     out of memory\n");
  const auto json = network_json(result, "float32");
  EXPECT_TRUE(json["out_of_memory"]);
  EXPECT_TRUE(json["images_per_s"].is_null());
}

TEST(NetworkTable, HasRateAndMemory) {
  const NetworkResult result{{"base", 1024, 8}, Timing{20, 19, 21, 10}, int64_t{2500000000}, true};
  EXPECT_EQ(network_table({result}, "bfloat16").text(),
            "variant  side px  batch  dtype     step ms  images/s  peak memory GB  graph\n"
            "base        1024      8  bfloat16    20.00     400.0            2.50  yes\n");
  const auto json = network_json(result, "bfloat16");
  EXPECT_DOUBLE_EQ(json["images_per_s"], 400);
  EXPECT_EQ(json["peak_bytes"], 2500000000);
  EXPECT_EQ(json["size"], 1024);
}

}  // namespace
}  // namespace vrwkv::bench
