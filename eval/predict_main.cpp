#include "cli/device.h"
#include "cli/output.h"
#include "cli/run_main.h"
#include "common/log.h"
#include "eval/check_classes.h"
#include "eval/class_names.h"
#include "eval/load_classifier.h"
#include "eval/predict_files.h"
#include "eval/predict_flags.h"
#include "eval/predict_tensor.h"
#include "eval/reconstruct_files.h"

namespace {

using namespace vrwkv;

int predict_tensor(const eval::PredictFlags& flags, VrwkvClassifier model, const eval::Precision& precision) {
  const at::Tensor input = eval::read_input(flags.input, model->options().backbone);
  eval::write_logits(flags.output, eval::predict_logits(model, input, precision));
  log::info("logits of " + std::to_string(input.size(0)) + " inputs written to " + flags.output);
  return cli::kSuccess;
}

int predict(const CLI::App& app, eval::PredictFlags flags) {
  eval::settle(flags);
  const config::RunConfig config = cli::load_config(flags);
  eval::check_task(flags, config);
  cli::check_output("--json", flags.json);
  cli::check_output("--csv", flags.csv);
  cli::check_output("--save-inputs", flags.save_inputs);
  cli::check_output("--output", flags.output);
  cli::check_output("--reconstruct", flags.reconstruct);
  const eval::Precision precision{cli::prepare_device(config.run), config.run.dtype};
  const ModelWeights weights = eval::read_checkpoint(flags.checkpoint, flags.weights);
  const auto unreadable = [&](const std::string& message) { cli::print_error(app, message); };
  if (config.task == config::TaskName::mae) {
    return eval::reconstruct_files(flags, config, weights, precision, unreadable) ? cli::kSuccess : cli::kRunFailed;
  }
  eval::check_head(config, weights);
  const auto names = eval::class_names(config.model.num_classes, flags.classes, weights.classes);
  const VrwkvClassifier model = eval::load_classifier(config.model, weights, flags.checkpoint, precision);
  if (!flags.input.empty()) return predict_tensor(flags, model, precision);
  const bool all = eval::predict_files(flags, model, config, precision, names, unreadable);
  return all ? cli::kSuccess : cli::kRunFailed;
}

}  // namespace

int main(int argc, char** argv) {
  const auto app = cli::make_app("vrwkv-predict",
                                 "Classifies images, or an input tensor, with a checkpoint, or reconstructs images.");
  eval::PredictFlags flags;
  eval::add_predict_flags(*app, flags);
  return cli::run_main(*app, argc, argv, [&] { return predict(*app, flags); });
}
