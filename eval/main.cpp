#include <chrono>
#include <iostream>
#include <sstream>

#include "cli/device.h"
#include "cli/flags.h"
#include "cli/run_main.h"
#include "common/log.h"
#include "data/dataset.h"
#include "eval/check_classes.h"
#include "eval/load_classifier.h"
#include "eval/report.h"

namespace {

using namespace vrwkv;

struct Flags {
  cli::Flags common;
  std::string checkpoint, json;
  int64_t batch_size = 0;
  bool per_class = false;
};

int evaluate(Flags flags) {
  if (flags.batch_size > 0) flags.common.overrides.push_back("eval.batch_size=" + std::to_string(flags.batch_size));
  const config::RunConfig config = cli::load_config(flags.common);
  const eval::Precision precision{cli::prepare_device(config.run), config.run.dtype};
  eval::LoadedClassifier loaded = eval::load_classifier(config, flags.checkpoint, precision);
  const auto dataset = data::open_dataset(config.data.val);
  eval::check_classes(*dataset, "data.val", config, loaded.classes);
  const auto loader = eval::make_eval_loader(config, dataset, precision.device);

  const auto start = std::chrono::steady_clock::now();
  const eval::Accuracy accuracy = eval::evaluate(loaded.model, *loader, config.data.normalize, precision);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  std::ostringstream text;
  text << accuracy.images << " images in " << seconds << " s (" << static_cast<double>(accuracy.images) / seconds
       << " images/s), loss " << accuracy.loss;
  log::info(text.str());

  if (flags.per_class) std::cout << eval::class_table(accuracy, dataset->classes());
  if (!flags.json.empty()) {
    eval::write_result(flags.json, eval::to_json(accuracy, dataset->classes(), flags.per_class, flags.common.config,
                                                 flags.checkpoint));
  }
  if (flags.json != "-") std::cout << eval::summary_line(accuracy) << std::endl;
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const auto app = cli::make_app("vrwkv-eval", "Evaluates a checkpoint on the validation images of a configuration (data.val).");
  Flags flags;
  cli::add_flags(*app, flags.common);
  cli::add_overrides(*app, flags.common);
  app->add_option("--checkpoint", flags.checkpoint, "weights: a training checkpoint or a .safetensors file")->required();
  app->add_flag("--per-class", flags.per_class, "also print the accuracy of each class; default: off");
  app->add_option("--json", flags.json, "write exact counts as JSON to this file, - for stdout; default: none");
  app->add_option("--batch-size", flags.batch_size, "images per batch; default: the configuration's eval.batch_size")
      ->check(CLI::PositiveNumber);
  return cli::run_main(*app, argc, argv, [&] { return evaluate(flags); });
}
