#include "eval/predict_flags.h"

#include <filesystem>
#include <regex>

#include "common/errors.h"
#include "eval/image_paths.h"

namespace vrwkv::eval {

void add_predict_flags(CLI::App& app, PredictFlags& flags) {
  cli::add_flags(app, flags);
  app.add_option("--checkpoint", flags.checkpoint, "Weights, .safetensors or .pth")->required()->type_name("FILE");
  cli::add_weights_flag(app, flags.weights);
  CLI::Option* top_k = app.add_option("--top-k", flags.top_k, "Classes printed for each image")
                           ->type_name("N")
                           ->check(cli::positive_integer());
  CLI::Option* classes = app.add_option("--classes", flags.classes, "Class names, one a line")
                             ->type_name("FILE")
                             ->default_str("the checkpoint's, else numbers");
  CLI::Option* json = app.add_option("--json", flags.json, "Write the predictions as JSON; - for stdout, without text")
                          ->type_name("FILE")
                          ->default_str("none");
  CLI::Option* csv = app.add_option("--csv", flags.csv, "Write the predictions as CSV, a line for each class")
                         ->type_name("FILE")
                         ->default_str("none");
  CLI::Option* annotate =
      app.add_option("--annotate", flags.annotate, "Write each image with its classes below it as a PNG file")
          ->type_name("FOLDER")
          ->default_str("none");
  CLI::Option* save_inputs =
      app.add_option("--save-inputs", flags.save_inputs,
                     "Write what the network saw of each image, float32 [3, S, S], keyed by file name, .safetensors")
          ->type_name("FILE")
          ->default_str("none");
  CLI::Option* input = app.add_option("--input", flags.input,
                                      "Instead of images: tensor 'input', float32 [B, 3, H, W], already normalised, "
                                      "H and W multiples of the patch size, .safetensors")
                           ->type_name("FILE")
                           ->default_str("none");
  CLI::Option* output = app.add_option("--output", flags.output, "With --input: where tensor 'logits' is written")
                            ->type_name("FILE")
                            ->default_str("none");
  input->needs(output)->excludes(top_k)->excludes(classes)->excludes(json)->excludes(csv)->excludes(annotate)->excludes(
      save_inputs);
  output->needs(input);
  app.add_option("--reconstruct", flags.reconstruct,
                 "For a configuration with task mae, in place of classes: draw each image, what is visible of it and "
                 "its reconstruction, .png")
      ->type_name("FILE")
      ->default_str("none")
      ->excludes(top_k)
      ->excludes(classes)
      ->excludes(json)
      ->excludes(csv)
      ->excludes(annotate)
      ->excludes(save_inputs)
      ->excludes(input);
  app.add_option("IMAGE", flags.arguments,
                 "JPEG or PNG files, or folders of them; also key.path=value, to replace values of CONFIG")
      ->type_name("")
      ->default_str("none");
}

void settle(PredictFlags& flags) {
  static const std::regex override_form("[A-Za-z0-9_]+(\\.[A-Za-z0-9_]+)+=[^]*");
  for (const std::string& argument : flags.arguments) {
    const bool is_override = std::regex_match(argument, override_form) && !std::filesystem::exists(argument);
    (is_override ? flags.overrides : flags.images).push_back(argument);
  }
  if (flags.input.empty() && flags.images.empty()) {
    throw UsageError("nothing to predict: give image files, or --input and --output");
  }
  flags.images = image_paths(flags.images);
  if (!flags.input.empty() && !flags.images.empty()) {
    throw UsageError("--input and image files cannot go together, got --input " + flags.input + " and the image " +
                     flags.images.front());
  }
}

}  // namespace vrwkv::eval
