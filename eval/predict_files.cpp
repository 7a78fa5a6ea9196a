#include "eval/predict_files.h"

#include <filesystem>
#include <iostream>
#include <map>

#include "cli/output.h"
#include "common/errors.h"
#include "eval/annotate.h"
#include "eval/predict_images.h"
#include "eval/predict_report.h"
#include "vrwkv/checkpoint/safetensors.h"

namespace vrwkv::eval {
namespace {

void make_folder(const std::string& folder) {
  std::error_code problem;
  std::filesystem::create_directories(folder, problem);
  if (problem) throw UsageError("--annotate: cannot create the folder " + folder + ": " + problem.message());
}

}  // namespace

bool predict_files(const PredictFlags& flags, VrwkvClassifier model, const config::RunConfig& config,
                   const Precision& precision, const std::vector<std::string>& names,
                   const std::function<void(const std::string& message)>& unreadable) {
  nlohmann::ordered_json json = nlohmann::ordered_json::array();
  std::string csv = predictions_csv_header();
  std::map<std::string, at::Tensor> inputs;
  bool all = true;
  if (!flags.annotate.empty()) make_folder(flags.annotate);
  const std::map<std::string, std::string> keys = input_keys(flags.images), pictures = annotated_names(flags.images);
  PredictionSinks sinks;
  sinks.predicted = [&](const ImagePrediction& prediction) {
    if (flags.json != "-") std::cout << prediction_text(prediction, names) << std::flush;
    if (!flags.json.empty()) json.push_back(prediction_json(prediction, names));
    if (!flags.csv.empty()) csv += prediction_csv(prediction, names);
    if (!flags.annotate.empty()) {
      draw_annotated(prediction, names, std::filesystem::path(flags.annotate) / pictures.at(prediction.path));
    }
  };
  sinks.unreadable = [&](const std::string& path, const std::string& message) {
    unreadable(message);
    json.push_back(unreadable_json(path, message));
    csv += unreadable_csv(path, message);
    all = false;
  };
  if (!flags.save_inputs.empty()) {
    sinks.network_input = [&](const std::string& path, const at::Tensor& input) { inputs[keys.at(path)] = input; };
  }
  predict_images(std::move(model), flags.images, config, precision, std::stoll(flags.top_k), sinks);
  if (!flags.save_inputs.empty()) write_safetensors(flags.save_inputs, inputs);
  if (!flags.csv.empty()) cli::write_output(flags.csv, csv);
  if (!flags.json.empty()) {
    cli::write_output(flags.json, json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
  }
  return all;
}

}  // namespace vrwkv::eval
