#include <iostream>
#include <map>
#include <string>

#include "cli/device.h"
#include "cli/output.h"
#include "cli/run_main.h"
#include "common/log.h"
#include "eval/check_classes.h"
#include "eval/class_names.h"
#include "eval/load_classifier.h"
#include "eval/predict_flags.h"
#include "eval/predict_images.h"
#include "eval/predict_report.h"
#include "eval/predict_tensor.h"
#include "vrwkv/checkpoint/safetensors.h"

namespace {

using namespace vrwkv;

int predict_tensor(const eval::PredictFlags& flags, VrwkvClassifier model, const eval::Precision& precision) {
  const at::Tensor input = eval::read_input(flags.input, model->options().backbone);
  eval::write_logits(flags.output, eval::predict_logits(model, input, precision));
  log::info("logits of " + std::to_string(input.size(0)) + " inputs written to " + flags.output);
  return cli::kSuccess;
}

int predict_files(const CLI::App& app, const eval::PredictFlags& flags, VrwkvClassifier model,
                  const config::RunConfig& config, const eval::Precision& precision,
                  const std::vector<std::string>& names) {
  nlohmann::ordered_json report = nlohmann::ordered_json::array();
  std::map<std::string, at::Tensor> inputs;
  const std::map<std::string, std::string> keys = eval::input_keys(flags.images);
  int code = cli::kSuccess;
  eval::PredictionSinks sinks;
  sinks.predicted = [&](const eval::ImagePrediction& prediction) {
    if (flags.json != "-") std::cout << eval::prediction_text(prediction, names) << std::flush;
    if (!flags.json.empty()) report.push_back(eval::prediction_json(prediction, names));
  };
  sinks.unreadable = [&](const std::string& path, const std::string& message) {
    cli::print_error(app, message);
    report.push_back(eval::unreadable_json(path, message));
    code = cli::kRunFailed;
  };
  if (!flags.save_inputs.empty()) {
    sinks.network_input = [&](const std::string& path, const at::Tensor& input) { inputs[keys.at(path)] = input; };
  }
  eval::predict_images(model, flags.images, config, precision, std::stoll(flags.top_k), sinks);
  if (!flags.save_inputs.empty()) write_safetensors(flags.save_inputs, inputs);
  if (!flags.json.empty())
    cli::write_output(flags.json, report.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
  return code;
}

int predict(const CLI::App& app, eval::PredictFlags flags) {
  eval::settle(flags);
  const config::RunConfig config = cli::load_config(flags);
  cli::check_output("--json", flags.json);
  cli::check_output("--save-inputs", flags.save_inputs);
  cli::check_output("--output", flags.output);
  const eval::Precision precision{cli::prepare_device(config.run), config.run.dtype};
  const ModelWeights weights = eval::read_checkpoint(flags.checkpoint, flags.weights);
  eval::check_head(config, weights);
  const auto names = eval::class_names(config.model.num_classes, flags.classes, weights.classes);
  const VrwkvClassifier model = eval::load_classifier(config.model, weights, flags.checkpoint, precision);
  if (!flags.input.empty()) return predict_tensor(flags, model, precision);
  return predict_files(app, flags, model, config, precision, names);
}

}  // namespace

int main(int argc, char** argv) {
  const auto app = cli::make_app("vrwkv-predict", "Classifies images, or an input tensor, with a checkpoint.");
  eval::PredictFlags flags;
  eval::add_predict_flags(*app, flags);
  return cli::run_main(*app, argc, argv, [&] { return predict(*app, flags); });
}
