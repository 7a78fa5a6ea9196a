#include "tools/convert.h"

#include <ATen/Functions.h>

#include "common/errors.h"
#include "vrwkv/checkpoint/pth_writer.h"
#include "vrwkv/checkpoint/safetensors.h"
#include "vrwkv/checkpoint/weights.h"

namespace vrwkv::tools {
namespace {

/// Of a checkpoint's metadata, what says how to use the weights; the state of its training stays behind.
std::map<std::string, std::string> metadata_to_keep(const ModelWeights& weights) {
  std::map<std::string, std::string> kept;
  for (const char* const key : {kClassesKey, kConfigKey, kWkvKey}) {
    const auto found = weights.metadata.find(key);
    if (found != weights.metadata.end()) kept.insert(*found);
  }
  return kept;
}

}  // namespace

FileFormat format_of(const std::filesystem::path& path) {
  const std::string ending = path.extension().string();
  if (ending == ".safetensors") return FileFormat::safetensors;
  if (ending == ".pth" || ending == ".pt") return FileFormat::pth;
  throw UsageError(path.string() + ": its ending must be .safetensors, .pth or .pt, which says what to write, got '" +
                   ending + "'");
}

std::string convert(const ConvertOptions& options) {
  const FileFormat format = format_of(options.output);
  if (!std::filesystem::exists(options.input)) throw UsageError(options.input.string() + " does not exist");
  if (std::filesystem::is_directory(options.input)) {
    throw UsageError(options.input.string() + " is a folder; name a checkpoint in it");
  }
  std::error_code unknown;
  if (std::filesystem::equivalent(options.input, options.output, unknown)) {
    throw UsageError(options.output.string() + " is the input itself; name another file");
  }
  ModelWeights weights = read_model_weights(options.input, options.weights);
  int64_t numbers = 0;
  for (auto& [name, tensor] : weights.tensors) {
    if (options.dtype && tensor.is_floating_point()) tensor = tensor.to(*options.dtype);
    numbers += tensor.numel();
  }
  const auto metadata = metadata_to_keep(weights);
  if (format == FileFormat::pth) {
    write_pth(options.output, weights.tensors, metadata);
  } else {
    write_safetensors(options.output, weights.tensors, metadata);
  }
  return options.output.string() + ": " + std::to_string(weights.tensors.size()) + " tensors, " +
         std::to_string(numbers) + " numbers";
}

}  // namespace vrwkv::tools
