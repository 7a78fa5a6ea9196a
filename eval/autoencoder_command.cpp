#include "eval/autoencoder_command.h"

#include <chrono>
#include <cmath>
#include <iostream>
#include <nlohmann/json.hpp>
#include <utility>

#include "cli/device.h"
#include "cli/output.h"
#include "common/errors.h"
#include "common/log.h"
#include "eval/evaluator.h"
#include "eval/load_classifier.h"
#include "eval/mae_evaluator.h"

namespace vrwkv::eval {
namespace {

void refuse_flags_of_classifiers(const EvalFlags& flags) {
  const std::pair<const char*, bool> given[] = {{"--sizes", !flags.sizes.empty()},
                                                {"--crop-ratio", !flags.crop_ratio.empty()},
                                                {"--tta", !flags.tta.empty()},
                                                {"--labels", !flags.labels.empty()},
                                                {"--per-class", flags.per_class},
                                                {"--csv", !flags.csv.empty()},
                                                {"--plot", !flags.plot.empty()},
                                                {"--per-class-csv", !flags.per_class_csv.empty()},
                                                {"--confusion", !flags.confusion.empty()}};
  for (const auto& [name, is_given] : given) {
    if (is_given) {
      throw UsageError(std::string(name) + " is for classifiers, but " + flags.config +
                       " says task: mae, of which the loss is reported; leave the flag out");
    }
  }
}

nlohmann::ordered_json as_json(const std::string& checkpoint, WeightSet weights, const ReconstructionLoss& found) {
  return {{"checkpoint", checkpoint},
          {"weights", weights == WeightSet::ema ? "ema" : "raw"},
          {"images", found.images},
          {"loss", std::isfinite(found.loss) ? nlohmann::ordered_json(found.loss) : nlohmann::ordered_json(nullptr)}};
}

}  // namespace

void run_autoencoder_evaluations(const EvalFlags& flags, const config::RunConfig& config) {
  refuse_flags_of_classifiers(flags);
  const distributed::Launch launch = cli::prepare_launch();
  const Precision precision{cli::prepare_device(config.run, launch), config.run.dtype};
  if (launch.rank == 0) cli::check_output("--json", flags.json);
  distributed::World world(launch, std::chrono::seconds(config.train.distributed.timeout));
  const auto dataset = data::open_dataset(config.data.val);
  const bool several = flags.checkpoints.size() > 1;
  nlohmann::ordered_json reports = nlohmann::ordered_json::array();
  for (const std::string& checkpoint : flags.checkpoints) {
    const ModelWeights weights = read_checkpoint(checkpoint, flags.weights);
    const MaskedAutoencoder model =
        load_autoencoder({config.model.backbone, config.mae}, weights, checkpoint, precision);
    const auto loader = make_eval_loader(config, dataset, precision.device, world);
    const ReconstructionLoss found = evaluate_autoencoder(model, *loader, config.data.normalize, precision, world);
    if (!world.is_main()) continue;
    log::info(std::to_string(found.images) + " images");
    std::ostream& text = flags.json == "-" ? std::cerr : std::cout;
    if (several) text << checkpoint << "  ";
    text << summary_line(found) << std::endl;
    reports.push_back(as_json(checkpoint, flags.weights, found));
  }
  if (world.is_main() && !flags.json.empty()) {
    cli::write_output(flags.json, (several ? reports : reports.front()).dump(2) + "\n");
  }
  world.leave();
}

}  // namespace vrwkv::eval
