#include <ATen/ATen.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>

#include "bench/commands.h"
#include "bench/device_info.h"
#include "bench/dtypes.h"
#include "bench/report_file.h"
#include "bench/timer.h"
#include "cli/device.h"
#include "cli/run_main.h"
#include "common/table.h"
#include "config/text.h"
#include "vrwkv/recorded_step.h"
#include "vrwkv/vrwkv_classifier.h"

namespace vrwkv::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kWarmUpSteps = 12;  ///< The step is recorded in the fourth.
constexpr int kRepetitions = 5;
constexpr double kMsPerSecond = 1e3;
constexpr double kBytesPerGb = 1e9;

/// Milliseconds.
struct ScalingResult {
  NetworkCase network;  ///< Of each process.
  int64_t processes = 0;
  double alone_ms = 0;     ///< A step of the slowest process, all at work, nobody averages.
  double meeting_ms = 0;   ///< A step alone after which all meet, to add up a single number.
  double together_ms = 0;  ///< A step with averaged gradients.
  double reduce_ms = 0;    ///< Averaging as many bytes, and nothing else.
  int64_t gradient_bytes = 0;

  double efficiency() const { return alone_ms / together_ms; }
  double images_per_s() const { return kMsPerSecond * static_cast<double>(network.batch * processes) / together_ms; }
};

/// Median over some repetitions of the slowest process's time of a call, from a common start.
double time_together(const std::function<void()>& call, int64_t calls, at::Device device, distributed::World& world) {
  std::vector<double> times;
  for (int repetition = 0; repetition < kRepetitions; ++repetition) {
    synchronize(device);
    world.sum(at::zeros({1}));
    const auto start = Clock::now();
    for (int64_t i = 0; i < calls; ++i) call();
    synchronize(device);
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    double slowest = 0;
    for (const at::Tensor& one : world.gather(at::full({1}, seconds, at::kDouble))) {
      slowest = std::max(slowest, one.item<double>());
    }
    times.push_back(kMsPerSecond * slowest / static_cast<double>(calls));
  }
  return quantile(times, 0.5);
}

/// `after` follows every step, outside of its recording.
double time_steps(
    Step body, GraphMode graph, int64_t steps, at::Device device, distributed::World& world,
    const std::function<void()>& after = [] {}) {
  RecordedStep step(std::move(body), device, graph);
  const auto call = [&] {
    step();
    after();
  };
  for (int i = 0; i < kWarmUpSteps; ++i) call();
  return time_together(call, steps, device, world);
}

/// Adds up `numbers` numbers over the processes, as averaging gradients does; nothing for a process on its own.
std::function<void()> reduction(int64_t numbers, at::Device device, distributed::World& world) {
  const auto group = world.device_group(device);
  if (!group) return [] {};
  return [group, tensors = std::vector<at::Tensor>{at::zeros({numbers}, at::TensorOptions(device))}]() mutable {
    group->allreduce(tensors)->wait();
  };
}

double time_reduction(int64_t bytes, int64_t steps, at::Device device, distributed::World& world) {
  if (world.size() == 1) return 0;
  const auto reduce = reduction(bytes / 4, device, world);
  reduce();
  return time_together(reduce, steps, device, world);
}

ScalingResult measure_scaling(const NetworkCase& network, const eval::Precision& precision, GraphMode graph,
                              int64_t steps, distributed::World& world, const distributed::Options& options) {
  ScalingResult result{network, world.size()};
  ClassifierOptions model = variant_options(network.variant);
  model.backbone.img_size = network.image_size;
  for (const auto& parameter : VrwkvClassifier(model)->parameters()) {
    result.gradient_bytes += static_cast<int64_t>(parameter.nbytes());
  }
  const at::Device device = precision.device;
  result.alone_ms = time_steps(make_train_step(network, precision), graph, steps, device, world);
  // Processes that meet wait for the slowest of each step, not for the slowest on average.
  result.meeting_ms = time_steps(make_train_step(network, precision), graph, steps, device, world,
                                 reduction(/*numbers=*/1, device, world));
  result.together_ms = time_steps(make_train_step(network, precision, &world, options), graph, steps, device, world);
  result.reduce_ms = time_reduction(result.gradient_bytes, steps, device, world);
  return result;
}

Table scaling_table(const std::vector<ScalingResult>& results) {
  Table table({{"variant", Align::left},
               {"side px"},
               {"batch a process"},
               {"processes"},
               {"alone ms"},
               {"together ms"},
               {"efficiency %"},
               {"images/s"},
               {"gradients GB"},
               {"waiting ms"},
               {"reduction alone ms"},
               {"not hidden ms"}});
  for (const ScalingResult& result : results) {
    table.add({result.network.variant, std::to_string(result.network.image_size), std::to_string(result.network.batch),
               std::to_string(result.processes), milliseconds(result.alone_ms), milliseconds(result.together_ms),
               decimal(100 * result.efficiency(), 1), decimal(result.images_per_s(), 1),
               decimal(static_cast<double>(result.gradient_bytes) / kBytesPerGb, 3),
               milliseconds(result.meeting_ms - result.alone_ms), milliseconds(result.reduce_ms),
               milliseconds(result.together_ms - result.meeting_ms)});
  }
  return table;
}

nlohmann::ordered_json scaling_json(const ScalingResult& result, const std::string& dtype) {
  return {{"variant", result.network.variant},       {"size", result.network.image_size},
          {"batch", result.network.batch},           {"dtype", dtype},
          {"processes", result.processes},           {"alone_ms", result.alone_ms},
          {"meeting_ms", result.meeting_ms},         {"together_ms", result.together_ms},
          {"efficiency", result.efficiency()},       {"images_per_s", result.images_per_s()},
          {"gradient_bytes", result.gradient_bytes}, {"reduce_ms", result.reduce_ms}};
}

}  // namespace

int run_scaling(const ScalingFlags& flags) {
  const distributed::Launch launch = cli::prepare_launch();
  at::Device device = prepare(flags);
  config::RunOptions run;
  run.device = flags.device;
  if (launch.world_size > 1) device = cli::prepare_device(run, launch);
  distributed::World world(launch, std::chrono::seconds(config::TrainOptions().distributed.timeout));
  const std::string dtype = flags.dtype.empty() ? default_dtype(device) : flags.dtype;
  const eval::Precision precision{device, parse_network_dtype(dtype)};
  const Environment where = environment(device);
  nlohmann::ordered_json report = where.json();
  report["scaling"] = nlohmann::ordered_json::array();
  distributed::Options options;
  if (!flags.bucket_mb.empty()) options.bucket_mb = config::parse_integer(flags.bucket_mb).value();
  if (flags.gradients == "bfloat16") options.gradients = distributed::GradientDtype::bfloat16;
  std::vector<ScalingResult> results;
  for (const NetworkCase& network : make_cases(flags, device)) {
    results.push_back(measure_scaling(network, precision, parse_graph_mode(flags.graph),
                                      config::parse_integer(flags.steps).value(), world, options));
    report["scaling"].push_back(scaling_json(results.back(), dtype));
    if (world.is_main() && flags.json != "-") write_report(flags.json, report);
  }
  if (world.is_main()) {
    print_text(flags.json, where.text() + "\n" + scaling_table(results).text());
    if (flags.json == "-") write_report(flags.json, report);
  }
  world.leave();
  return cli::kSuccess;
}

}  // namespace vrwkv::bench
