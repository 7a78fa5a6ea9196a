#include "deploy/export.h"

#include <ATen/Functions.h>
#include <torch/csrc/jit/serialization/export.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <regex>

#include "cli/output.h"
#include "common/atomic_file.h"
#include "common/errors.h"
#include "deploy/onnx_export.h"
#include "deploy/trace.h"
#include "eval/check_classes.h"
#include "eval/load_classifier.h"
#include "eval/precision.h"

namespace vrwkv::deploy {
namespace {

using Metadata = std::map<std::string, std::string>;

std::string ending(const ExportFlags& flags) {
  const std::string ending = std::filesystem::path(flags.output).extension();
  if (ending == ".pt" || ending == ".onnx") return ending;
  throw UsageError("OUT must end in .pt (TorchScript) or .onnx, got " + flags.output);
}

struct Size {
  int64_t height, width;
};

Size input_size(const ExportFlags& flags, const config::RunConfig& config) {
  static const std::regex form("([1-9][0-9]{0,4})(?:x([1-9][0-9]{0,4}))?");
  std::smatch parts;
  Size size{config.data.eval_transform.size, config.data.eval_transform.size};
  if (!flags.size.empty()) {
    if (!std::regex_match(flags.size, parts, form)) {
      throw UsageError("--size must be N or HxW, such as 384 or 192x256, got " + flags.size);
    }
    size.height = std::stoll(parts[1]);
    size.width = parts[2].matched ? std::stoll(parts[2]) : size.height;
  }
  const int64_t patch = config.model.backbone.patch_size;
  if (size.height % patch == 0 && size.width % patch == 0) return size;
  throw UsageError("--size must be of multiples of model.patch_size (" + std::to_string(patch) + "), got " +
                   flags.size);
}

/// What turns an image into the input: for the programs that run the model.
std::string preprocessing(const config::RunConfig& config, Size size) {
  const auto& normalize = config.data.normalize;
  return nlohmann::ordered_json{{"height", size.height},  {"width", size.width},
                                {"layout", "NCHW, RGB"},  {"normalize", "(grey level from 0 to 255 - mean) / std"},
                                {"mean", normalize.mean}, {"std", normalize.std}}
      .dump();
}

Metadata metadata_of(const config::RunConfig& config, const ModelWeights& weights, Size size) {
  Metadata metadata{{kConfigKey, config::to_yaml(config)}, {"preprocessing", preprocessing(config, size)}};
  if (!weights.classes.empty()) metadata[kClassesKey] = classes_to_json(weights.classes);
  return metadata;
}

void write_torchscript(const std::filesystem::path& path, const torch::jit::Module& module, const Metadata& metadata) {
  const torch::jit::ExtraFilesMap extra(metadata.begin(), metadata.end());
  AtomicFile file(path);
  torch::jit::ExportModule(
      module,
      [&](const void* data, size_t size) {
        file.write(data, size);
        return size;
      },
      extra);
  file.commit();
}

}  // namespace

void add_export_flags(CLI::App& app, ExportFlags& flags) {
  cli::add_config_flag(app, flags);
  app.add_option("OUT", flags.output, "What to write; its ending, .pt (TorchScript) or .onnx, says in which format")
      ->required();
  app.add_option("--checkpoint", flags.checkpoint, "Weights, .safetensors or .pth")->required()->type_name("FILE");
  cli::add_weights_flag(app, flags.weights);
  cli::add_dtype_flag(app, flags);
  app.add_option("--size", flags.size, "Input images in pixels, side or height and width")
      ->type_name("N|HxW")
      ->default_str("data.eval_transform.size");
  cli::add_overrides(app, flags);
}

std::string export_model(const ExportFlags& flags) {
  const bool onnx = ending(flags) == ".onnx";
  const config::RunConfig config = cli::load_classifier_config(flags);
  if (onnx && config.run.dtype != config::Dtype::float32) {
    throw UsageError("an ONNX file is written in float32; leave out --dtype and run.dtype, or export to a .pt file");
  }
  const Size size = input_size(flags, config);
  cli::check_output("OUT", flags.output);
  const eval::Precision precision{at::kCPU, config.run.dtype};
  const ModelWeights weights = eval::read_checkpoint(flags.checkpoint, flags.weights);
  eval::check_head(config, weights);
  const VrwkvClassifier model = eval::load_classifier(config.model, weights, flags.checkpoint, precision);

  const eval::PrecisionGuard guard(precision);
  const at::Tensor example =
      at::zeros({2, config.model.backbone.in_channels, size.height, size.width}, eval::weights_dtype(config.run.dtype));
  const torch::jit::Module traced = trace(model, example);
  const Metadata metadata = metadata_of(config, weights, size);
  if (onnx) {
    AtomicFile file(flags.output);
    file.write(onnx_model(traced, metadata));
    file.commit();
  } else {
    write_torchscript(flags.output, traced, metadata);
  }
  return flags.output + ": images [any, " + std::to_string(config.model.backbone.in_channels) + ", " +
         std::to_string(size.height) + ", " + std::to_string(size.width) + "] to logits [any, " +
         std::to_string(config.model.num_classes) + "], " + std::to_string(std::filesystem::file_size(flags.output)) +
         " bytes";
}

}  // namespace vrwkv::deploy
