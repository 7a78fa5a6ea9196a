#include "vrwkv/checkpoint/weights.h"

#include <fstream>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "vrwkv/checkpoint/safetensors.h"

namespace vrwkv {
namespace {

/// .pth files are zip archives, the oldest ones bare pickles.
void refuse_pickles(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::string head(9, '\0');
  file.read(head.data(), static_cast<std::streamsize>(head.size()));
  // The length of a safetensors header may look like either magic, but is followed by the header's brace.
  if (head[8] == '{') return;
  const bool pickle = head[0] == '\x80' && head[1] >= 2 && head[1] <= 5;
  if (!head.starts_with("PK\x03\x04") && !pickle) return;
  throw std::runtime_error(path.string() +
                           ": a PyTorch .pth file, which this version does not read; convert it in Python (pip install "
                           "torch safetensors):\n"
                           "  import torch, safetensors.torch\n"
                           "  safetensors.torch.save_file(torch.load('in.pth', weights_only=True)['state_dict'], "
                           "'out.safetensors')");
}

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

/// The tensors whose names start with `prefix`, without it.
std::map<std::string, torch::Tensor> below(const std::map<std::string, torch::Tensor>& tensors,
                                           const std::string& prefix) {
  std::map<std::string, torch::Tensor> found;
  for (const auto& [name, tensor] : tensors) {
    if (name.starts_with(prefix)) found.emplace(name.substr(prefix.size()), tensor);
  }
  return found;
}

/// The tensors under `prefix` where there are any, else all.
std::map<std::string, torch::Tensor> below_if_any(std::map<std::string, torch::Tensor> tensors,
                                                  const std::string& prefix) {
  auto found = below(tensors, prefix);
  return found.empty() ? std::move(tensors) : std::move(found);
}

}  // namespace

ModelWeights read_model_weights(const std::filesystem::path& path, WeightSet set) {
  refuse_pickles(path);
  const Safetensors file = read_safetensors(path);
  ModelWeights weights;
  auto tensors = set == WeightSet::ema ? below(file.tensors, "ema.") : below_if_any(file.tensors, "model.");
  if (set == WeightSet::ema && tensors.empty()) {
    throw std::runtime_error(path.string() +
                             ": holds no averaged weights (tensors ema.*); set model.init_weights to raw, or name a "
                             "checkpoint of a run that averages its weights");
  }
  weights.tensors = with_backbone(below_if_any(std::move(tensors), "module."));
  const auto classes = file.metadata.find(kClassesKey);
  if (classes != file.metadata.end()) weights.classes = parse_classes(path, classes->second);
  return weights;
}

std::string classes_to_json(const std::vector<std::string>& classes) {
  // A folder's name need not be UTF-8, which JSON must be.
  return nlohmann::json(classes).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace vrwkv
