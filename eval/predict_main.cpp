#include <fstream>
#include <iostream>

#include "cli/device.h"
#include "cli/flags.h"
#include "cli/run_main.h"
#include "common/errors.h"
#include "common/log.h"
#include "eval/predictions.h"
#include "eval/report.h"

namespace {

using namespace vrwkv;

struct Flags {
  cli::Flags common;
  std::vector<std::string> arguments;  ///< Images, and overrides among them.
  std::string checkpoint, input, output, save_inputs, json, classes;
  int64_t top_k = 5;
};

std::vector<std::string> read_lines(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw UsageError("--classes: cannot open " + path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

/// Predicts every image that can be read; the others are reported and make the exit code 1.
int predict_images(const Flags& flags, const std::vector<std::string>& images, const config::RunConfig& config,
                   eval::LoadedClassifier& loaded, const eval::Precision& precision) {
  std::vector<eval::Prediction> predictions;
  int status = 0;
  for (const auto& image : images) {
    try {
      predictions.push_back(eval::predict_image(loaded, image, flags.top_k, config, precision));
      if (flags.json != "-") std::cout << eval::to_text(predictions.back()) << std::flush;
    } catch (const std::runtime_error& error) {
      std::cerr << "vrwkv-predict: error: " << error.what() << std::endl;
      status = 1;
    }
  }
  if (!flags.json.empty()) eval::write_result(flags.json, eval::to_json(predictions));
  if (!flags.save_inputs.empty()) eval::save_inputs(flags.save_inputs, predictions);
  return status;
}

int predict(Flags flags) {
  std::vector<std::string> images;
  for (const auto& argument : flags.arguments) {
    (cli::is_override(argument) ? flags.common.overrides : images).push_back(argument);
  }
  if (flags.input.empty() != flags.output.empty()) throw UsageError("--input and --output go together");
  if (flags.input.empty() == images.empty()) throw UsageError("expected images, or --input with --output, and not both");
  const config::RunConfig config = cli::load_config(flags.common);
  const eval::Precision precision{cli::prepare_device(config.run), config.run.dtype};
  eval::LoadedClassifier loaded = eval::load_classifier(config, flags.checkpoint, precision);
  if (!flags.classes.empty()) loaded.classes = read_lines(flags.classes);
  if (!images.empty()) return predict_images(flags, images, config, loaded, precision);
  eval::predict_file(loaded, flags.input, flags.output, precision);
  log::info("wrote " + flags.output);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const auto app = cli::make_app("vrwkv-predict", "Predicts the classes of images, or the logits of prepared tensors.");
  Flags flags;
  cli::add_flags(*app, flags.common);
  app->add_option("IMAGE", flags.arguments, "JPEG or PNG files, and key.path=value overrides; default: none");
  app->add_option("--checkpoint", flags.checkpoint, "weights: a training checkpoint or a .safetensors file")->required();
  app->add_option("--top-k", flags.top_k, "classes shown for each image")->check(CLI::PositiveNumber)->capture_default_str();
  app->add_option("--classes", flags.classes, "class names, one a line; default: those in the checkpoint");
  app->add_option("--json", flags.json, "write the predictions as JSON to this file, - for stdout; default: none");
  app->add_option("--save-inputs", flags.save_inputs, "write the tensors that the network saw, .safetensors; default: none");
  app->add_option("--input", flags.input, "instead of images: .safetensors with `input` [B, 3, H, W], normalised");
  app->add_option("--output", flags.output, "with --input: .safetensors to write `logits` to");
  return cli::run_main(*app, argc, argv, [&] { return predict(flags); });
}
