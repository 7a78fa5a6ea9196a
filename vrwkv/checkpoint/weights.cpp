#include "vrwkv/checkpoint/weights.h"

#include <nlohmann/json.hpp>
#include <stdexcept>

#include "vrwkv/checkpoint/pth.h"
#include "vrwkv/checkpoint/safetensors.h"

namespace vrwkv {
namespace {

std::vector<std::string> classes_in(const std::filesystem::path& path,
                                    const std::map<std::string, std::string>& metadata) {
  const auto found = metadata.find(kClassesKey);
  if (found == metadata.end()) return {};
  const std::string& text = found->second;
  try {
    return nlohmann::json::parse(text).get<std::vector<std::string>>();
  } catch (const nlohmann::json::exception&) {
    throw std::runtime_error(path.string() + ": metadata '" + kClassesKey + "' must be a JSON list of names, got " +
                             text);
  }
}

/// The tensors by their published names, where a file leaves `backbone.` out.
std::map<std::string, torch::Tensor> with_backbone(std::map<std::string, torch::Tensor> tensors) {
  if (!tensors.contains("patch_embed.projection.weight")) return tensors;
  std::map<std::string, torch::Tensor> named;
  for (const auto& [name, tensor] : tensors) {
    named.emplace(name.starts_with("head.") ? name : "backbone." + name, tensor);
  }
  return named;
}

}  // namespace

ModelWeights read_model_weights(const std::filesystem::path& path, WeightSet set) {
  if (looks_like_pth(path)) {
    PthFile file = read_pth(path, set);
    file.metadata.try_emplace(kWkvKey, kWkvPublished);
    return {with_backbone(file.tensors), classes_in(path, file.metadata), file.metadata};
  }
  const Safetensors file = read_safetensors(path);
  ModelWeights weights;
  weights.metadata = file.metadata;
  weights.metadata.try_emplace(kWkvKey, kWkvPaper);
  const std::string prefix = set == WeightSet::raw ? "model." : "ema.";
  for (const auto& [name, tensor] : file.tensors) {
    if (name.starts_with(prefix)) weights.tensors.emplace(name.substr(prefix.size()), tensor);
  }
  if (weights.tensors.empty() && set == WeightSet::ema) {
    throw std::runtime_error(path.string() + ": holds no moving average of the weights (tensors ema.*)");
  }
  if (weights.tensors.empty()) weights.tensors = with_backbone(file.tensors);
  weights.classes = classes_in(path, file.metadata);
  return weights;
}

std::string classes_to_json(const std::vector<std::string>& classes) {
  // A folder's name need not be UTF-8, which JSON must be.
  return nlohmann::json(classes).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace vrwkv
