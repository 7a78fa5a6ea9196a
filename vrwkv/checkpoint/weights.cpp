#include "vrwkv/checkpoint/weights.h"

#include <nlohmann/json.hpp>
#include <stdexcept>

#include "vrwkv/checkpoint/pth.h"
#include "vrwkv/checkpoint/safetensors.h"

namespace vrwkv {
namespace {

std::vector<std::string> parse_classes(const std::filesystem::path& path, const std::string& text) {
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

ModelWeights read_model_weights(const std::filesystem::path& path, WeightsKind kind) {
  if (looks_like_pth(path)) return {with_backbone(read_pth(path, kind)), {}, {}};
  const Safetensors file = read_safetensors(path);
  ModelWeights weights;
  weights.metadata = file.metadata;
  const std::string prefix = kind == WeightsKind::raw ? "model." : "ema.";
  for (const auto& [name, tensor] : file.tensors) {
    if (name.starts_with(prefix)) weights.tensors.emplace(name.substr(prefix.size()), tensor);
  }
  if (weights.tensors.empty() && kind == WeightsKind::ema) {
    throw std::runtime_error(path.string() + ": holds no moving average of the weights (tensors ema.*)");
  }
  if (weights.tensors.empty()) weights.tensors = with_backbone(file.tensors);
  const auto classes = file.metadata.find(kClassesKey);
  if (classes != file.metadata.end()) weights.classes = parse_classes(path, classes->second);
  return weights;
}

std::string classes_to_json(const std::vector<std::string>& classes) {
  // A folder's name need not be UTF-8, which JSON must be.
  return nlohmann::json(classes).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace vrwkv
