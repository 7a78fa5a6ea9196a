#include "bench/commands.h"
#include "bench/device_info.h"
#include "bench/dtypes.h"
#include "bench/network_bench.h"
#include "bench/report_file.h"
#include "bench/sizes.h"
#include "cli/run_main.h"
#include "common/errors.h"
#include "common/log.h"
#include "config/text.h"

namespace vrwkv::bench {
namespace {

constexpr double kSeconds = 2;

}  // namespace

std::vector<NetworkCase> make_cases(const NetworkFlags& flags, at::Device device) {
  const std::vector<std::string> variants =
      flags.variants.empty() ? std::vector<std::string>{"tiny", "small", "base"} : flags.variants;
  std::vector<NetworkCase> cases;
  for (const std::string& variant : variants) {
    const int64_t patch = variant_options(variant).backbone.patch_size;
    const auto sides = flags.sizes.empty() ? default_image_sizes(device) : parse_image_sizes(flags.sizes, patch);
    for (const int64_t side : sides) {
      const int64_t batch =
          flags.batch.empty() ? default_batch(variant, side, device) : config::parse_integer(flags.batch).value();
      cases.push_back({variant, side, batch});
    }
  }
  return cases;
}

GraphMode parse_graph_mode(const std::string& name) {
  return name == "on" ? GraphMode::on : name == "off" ? GraphMode::off : GraphMode::automatic;
}

int run_networks(const std::string& kind, const NetworkFlags& flags, const StepFactory& factory) {
  const at::Device device = prepare(flags);
  const std::string dtype = flags.dtype.empty() ? default_dtype(device) : flags.dtype;
  const eval::Precision precision{device, parse_network_dtype(dtype)};
  const TimerOptions timer = timer_options(flags, kSeconds);
  const std::vector<NetworkCase> cases = make_cases(flags, device);
  const int64_t kernels = flags.kernels.empty() ? 0 : config::parse_integer(flags.kernels).value();
  if (kernels > 0 && !device.is_cuda()) {
    throw UsageError("--kernels: expected a GPU, whose kernels it shows; got " + device.str());
  }

  const Environment where = environment(device);
  nlohmann::ordered_json report = where.json();
  report[kind] = nlohmann::ordered_json::array();
  std::vector<NetworkResult> results;
  for (const NetworkCase& network : cases) {
    log::info("measuring " + kind + ":" + network.text());
    results.push_back(measure_network(network, precision, factory, parse_graph_mode(flags.graph), timer));
    report[kind].push_back(network_json(results.back(), dtype));
    if (flags.json != "-") write_report(flags.json, report);
  }
  for (size_t i = 0; kernels > 0 && i < results.size(); ++i) {
    NetworkResult& result = results[i];
    if (!result.timing) continue;
    log::info("profiling " + kind + ":" + result.network.text());
    result.kernels = profile_network(result.network, precision, factory, parse_graph_mode(flags.graph));
    report[kind][i] = network_json(result, dtype);
    if (flags.json != "-") write_report(flags.json, report);
  }
  std::string text = where.text() + "\n" + network_table(results, dtype).text();
  for (const NetworkResult& result : results) {
    if (result.kernels.empty()) continue;
    text += "\n" + kind + ":" + result.network.text() + "\n" + kernel_table(result.kernels, kernels).text();
  }
  print_text(flags.json, text);
  if (flags.json == "-") write_report(flags.json, report);
  return cli::kSuccess;
}

}  // namespace vrwkv::bench
