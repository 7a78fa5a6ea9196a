#include "bench/network_bench.h"

#include "bench/device_info.h"
#include "bench/out_of_memory.h"
#include "vrwkv/recorded_step.h"

namespace vrwkv::bench {
namespace {

constexpr double kBytesPerGb = 1e9;
constexpr double kMsPerSecond = 1e3;

nlohmann::ordered_json optional_json(const auto& value) {
  return value ? nlohmann::ordered_json(*value) : nlohmann::ordered_json(nullptr);
}

}  // namespace

std::optional<double> NetworkResult::images_per_s() const {
  if (!timing) return std::nullopt;
  return kMsPerSecond * static_cast<double>(network.batch) / timing->median_ms;
}

NetworkResult measure_network(const NetworkCase& network, const eval::Precision& precision, const StepFactory& factory,
                              GraphMode graph, const TimerOptions& timer) {
  NetworkResult result;
  result.network = network;
  fits_in_memory(precision.device, [&] {
    RecordedStep step(factory(network, precision), precision.device, graph);
    reset_peak_memory(precision.device);
    result.timing = measure([&] { step(); }, precision.device, timer);
    result.graph = step.recorded();
    result.peak_bytes = peak_memory(precision.device);
  });
  return result;
}

std::vector<KernelTime> profile_network(const NetworkCase& network, const eval::Precision& precision,
                                        const StepFactory& factory, GraphMode graph) {
  constexpr int kWarmUp = 8;  // Until a graph is recorded, and a few of its runs.
  RecordedStep step(factory(network, precision), precision.device, graph);
  for (int i = 0; i < kWarmUp; ++i) step();
  return kernel_times([&] { step(); }, precision.device);
}

Table network_table(const std::vector<NetworkResult>& results, const std::string& dtype) {
  Table table({{"variant", Align::left},
               {"side px"},
               {"batch"},
               {"dtype", Align::left},
               {"step ms"},
               {"images/s"},
               {"peak memory GB"},
               {"graph", Align::left},
               {"", Align::left}});
  for (const NetworkResult& result : results) {
    const auto& [variant, side, batch] = result.network;
    const auto gigabytes =
        result.peak_bytes ? std::optional(static_cast<double>(*result.peak_bytes) / kBytesPerGb) : std::nullopt;
    table.add({variant, std::to_string(side), std::to_string(batch), dtype,
               milliseconds(result.timing ? std::optional(result.timing->median_ms) : std::nullopt),
               decimal(result.images_per_s(), 1), decimal(gigabytes, 2), result.graph ? "yes" : "no",
               result.timing ? "" : "out of memory"});
  }
  return table;
}

nlohmann::ordered_json network_json(const NetworkResult& result, const std::string& dtype) {
  const auto& [variant, side, batch] = result.network;
  nlohmann::ordered_json row{{"variant", variant}, {"size", side}, {"batch", batch}, {"dtype", dtype}};
  row["out_of_memory"] = !result.timing;
  row["ms"] = result.timing ? nlohmann::ordered_json(result.timing->median_ms) : nullptr;
  row["p10_ms"] = result.timing ? nlohmann::ordered_json(result.timing->p10_ms) : nullptr;
  row["p90_ms"] = result.timing ? nlohmann::ordered_json(result.timing->p90_ms) : nullptr;
  row["runs"] = result.timing ? nlohmann::ordered_json(result.timing->runs) : nullptr;
  row["images_per_s"] = optional_json(result.images_per_s());
  row["peak_bytes"] = optional_json(result.peak_bytes);
  row["graph"] = result.graph;
  if (!result.kernels.empty()) row["kernels"] = kernel_json(result.kernels);
  return row;
}

}  // namespace vrwkv::bench
