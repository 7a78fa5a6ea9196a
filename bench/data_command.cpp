#include <sstream>

#include "bench/commands.h"
#include "bench/data_bench.h"
#include "bench/report_file.h"
#include "cli/device.h"
#include "cli/output.h"
#include "cli/run_main.h"
#include "config/text.h"
#include "data/dataset.h"
#include "data/gpu/make_stage.h"

namespace vrwkv::bench {

int run_data(const DataFlags& flags) {
  cli::check_output("--json", flags.json);
  const config::RunConfig config = cli::load_config(flags);
  const at::Device device =
      config.data.decode == data::DecodeDevice::cpu ? at::Device(at::kCPU) : cli::resolve_device(config.run.device);
  data::gpu::make_stage(config.data, config.data.train_transform.size, device);  // Its errors before long measurements.
  const auto train = data::open_dataset(config.data.train), val = data::open_dataset(config.data.val);
  const double seconds = std::stod(flags.seconds);
  const DataRate training = measure_training_data(*train, config, seconds);
  const DataRate evaluation = measure_evaluation_data(*val, config, seconds);
  std::ostringstream text;
  text << data_rate_text("training samples", training) << data_rate_text("evaluation samples", evaluation);
  nlohmann::ordered_json report;
  report["data"] = {{"training", data_rate_json(training)}, {"evaluation", data_rate_json(evaluation)}};
  for (const std::string& count : flags.workers) {
    const int64_t workers = config::parse_integer(count).value();
    const LoaderRate rate = measure_loader(train, config, workers, seconds, device);
    const double linear = rate.images_per_s / (static_cast<double>(workers) * training.images_per_s);
    text << "loader, " << workers << (workers == 1 ? " thread" : " threads") << (rate.gpu ? " and a GPU: " : ": ")
         << static_cast<int64_t>(rate.images_per_s) << " images/s, " << static_cast<int64_t>(100 * linear)
         << " % of so many single threads\n";
    nlohmann::ordered_json row{{"workers", workers}, {"images_per_s", rate.images_per_s}, {"linear", linear}};
    if (rate.gpu) {
      text << device_times_text(*rate.gpu);
      row["gpu"] = device_times_json(*rate.gpu);
    }
    report["data"]["loader"].push_back(row);
  }
  print_text(flags.json, text.str());
  write_report(flags.json, report);
  return cli::kSuccess;
}

}  // namespace vrwkv::bench
