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
        const NetworkResult result = measure_network(network, {device, dtype}, factory, GraphMode::automatic, quick());
        ASSERT_TRUE(result.timing);
        EXPECT_GT(*result.images_per_s(), 0);
        EXPECT_EQ(result.peak_bytes.has_value(), device.is_cuda());
      }
    }
  }
}

TEST(ProfileNetwork, NamesTheKernelsOfAGpu) {
  const at::Device device = testing::devices().back();
  if (!device.is_cuda()) GTEST_SKIP() << "no CUDA device";
  EXPECT_FALSE(
      profile_network({"tiny", 32, 2}, {device, config::Dtype::bfloat16}, alone, GraphMode::automatic).empty());
}

TEST(MeasureNetwork, OutOfMemoryIsARowAndNotTheEnd) {
  const StepFactory factory = [](const NetworkCase&, const eval::Precision&) -> Step { throw std::bad_alloc(); };
  const NetworkResult result =
      measure_network({"tiny", 224, 7}, {at::kCPU, config::Dtype::float32}, factory, GraphMode::automatic, quick());
  EXPECT_FALSE(result.timing);
  EXPECT_EQ(network_table({result}, "float32").text(),
            "variant  side px  batch  dtype    step ms  images/s  peak memory GB  graph\n"
            "tiny         224      7  float32        -         -               -  no     out of memory\n");
  const auto json = network_json(result, "float32");
  EXPECT_TRUE(json["out_of_memory"]);
  EXPECT_TRUE(json["images_per_s"].is_null());
}

TEST(NetworkTable, HasRateAndMemory) {
  const NetworkResult result{{"base", 1024, 8}, Timing{20, 19, 21, 10}, int64_t{2500000000}, true, {}};
  EXPECT_EQ(network_table({result}, "bfloat16").text(),
            "variant  side px  batch  dtype     step ms  images/s  peak memory GB  graph\n"
            "base        1024      8  bfloat16    20.00     400.0            2.50  yes\n");
  const auto json = network_json(result, "bfloat16");
  EXPECT_DOUBLE_EQ(json["images_per_s"], 400);
  EXPECT_EQ(json["peak_bytes"], 2500000000);
  EXPECT_EQ(json["size"], 1024);
}

TEST(KernelTable, HasTheLongestTheRestAndTheSum) {
  std::string name = "void ";
  name.append(100, 'k');
  const std::vector<KernelTime> kernels{{name, 2, 60}, {"copy", 1, 30}, {"fill", 0.2, 10}};
  EXPECT_EQ(
      kernel_table(kernels, 1).text(),
      "kernel                                                                    calls a step  us a step      %\n" +
          name.substr(5, 69) +
          "...           2.0       60.0   60.0\n"
          "all others                                                                         1.2       40.0   40.0\n"
          "sum                                                                                3.2      100.0  100.0\n");
  const auto json = kernel_json(kernels);
  ASSERT_EQ(json.size(), 3);
  EXPECT_EQ(json[0]["name"], name);
  EXPECT_DOUBLE_EQ(json[2]["calls"], 0.2);
  EXPECT_DOUBLE_EQ(json[1]["step_us"], 30);
}

}  // namespace
}  // namespace vrwkv::bench
