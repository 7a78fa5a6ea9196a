#include <c10/util/StringUtil.h>

#include <chrono>
#include <iostream>
#include <string>

#include "cli/device.h"
#include "cli/flags.h"
#include "cli/output.h"
#include "cli/run_main.h"
#include "common/log.h"
#include "eval/check_classes.h"
#include "eval/evaluator.h"
#include "eval/load_classifier.h"
#include "eval/report.h"

namespace {

using namespace vrwkv;

struct EvalFlags : cli::Flags {
  std::string checkpoint, batch_size, json;
  WeightSet weights = WeightSet::raw;
  bool per_class = false;
};

void log_rate(const eval::Accuracy& accuracy, std::chrono::duration<double> time) {
  const double rate = static_cast<double>(accuracy.images) / time.count();
  log::info(c10::str(accuracy.images, " images, loss ", accuracy.loss, ", ", rate, " images/s"));
}

int evaluate(EvalFlags flags) {
  if (!flags.batch_size.empty()) flags.overrides.push_back("eval.batch_size=" + flags.batch_size);
  const config::RunConfig config = cli::load_config(flags);
  const distributed::Launch launch = cli::prepare_launch();
  if (launch.rank == 0) cli::check_output("--json", flags.json);
  const eval::Precision precision{cli::prepare_device(config.run, launch), config.run.dtype};
  distributed::World world(launch, std::chrono::seconds(config.train.distributed.timeout));
  const ModelWeights weights = eval::read_checkpoint(flags.checkpoint, flags.weights);
  const auto dataset = data::open_dataset(config.data.val);
  eval::check_classes(*dataset, "data.val", config, &weights);
  const VrwkvClassifier model = eval::load_classifier(config.model, weights, flags.checkpoint, precision);
  const auto loader = eval::make_eval_loader(config, dataset, precision.device, world);

  const auto start = std::chrono::steady_clock::now();
  const eval::Accuracy accuracy = eval::evaluate(model, *loader, config.data.normalize, precision, world);
  log_rate(accuracy, std::chrono::steady_clock::now() - start);
  world.leave();
  if (!world.is_main()) return cli::kSuccess;

  if (!flags.json.empty()) {
    const std::vector<std::string> names = flags.per_class ? dataset->classes() : std::vector<std::string>{};
    cli::write_output(flags.json, eval::report_json(accuracy, {flags.config, flags.checkpoint}, names));
  }
  std::ostream& text = flags.json == "-" ? std::cerr : std::cout;
  if (flags.per_class) text << eval::class_table(accuracy, dataset->classes());
  text << eval::summary_line(accuracy) << std::endl;
  return cli::kSuccess;
}

}  // namespace

int main(int argc, char** argv) {
  const auto app = cli::make_app("vrwkv-eval", "Measures a checkpoint's accuracy on data.val of a configuration.");
  EvalFlags flags;
  cli::add_flags(*app, flags);
  app->add_option("--checkpoint", flags.checkpoint, "Weights to evaluate, .safetensors or .pth")
      ->required()
      ->type_name("FILE");
  cli::add_weights_flag(*app, flags.weights);
  app->add_option("--batch-size", flags.batch_size, "Images at once")
      ->type_name("N")
      ->default_str("eval.batch_size of CONFIG")
      ->check(cli::positive_integer());
  app->add_flag("--per-class", flags.per_class, "Also the accuracy of each class");
  app->add_option("--json", flags.json, "Write exact counts as JSON; - for stdout, the text then goes to stderr")
      ->type_name("FILE")
      ->default_str("none");
  cli::add_overrides(*app, flags);
  return cli::run_main(*app, argc, argv, [&] { return evaluate(flags); });
}
