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
  std::string magic(2, '\0');
  file.read(magic.data(), 2);
  if (magic != "PK" && magic != "\x80\x02") return;
  throw std::runtime_error(path.string() +
                           ": a PyTorch .pth file; convert it to .safetensors in Python: import torch, "
                           "safetensors.torch as st; st.save_file(torch.load('in.pth', weights_only=True)['state_dict'], "
                           "'out.safetensors')");
}

std::vector<std::string> parse_classes(const std::filesystem::path& path, const std::string& text) {
  try {
    return nlohmann::json::parse(text).get<std::vector<std::string>>();
  } catch (const nlohmann::json::exception&) {
    throw std::runtime_error(path.string() + ": metadata '" + kClassesKey + "' must be a JSON list of names, got " + text);
  }
}

}  // namespace

ModelWeights read_model_weights(const std::filesystem::path& path) {
  refuse_pickles(path);
  const Safetensors file = read_safetensors(path);
  ModelWeights weights;
  const std::string prefix = "model.";
  for (const auto& [name, tensor] : file.tensors) {
    if (name.starts_with(prefix)) weights.tensors.emplace(name.substr(prefix.size()), tensor);
  }
  if (weights.tensors.empty()) weights.tensors = file.tensors;
  const auto classes = file.metadata.find(kClassesKey);
  if (classes != file.metadata.end()) weights.classes = parse_classes(path, classes->second);
  return weights;
}

std::string classes_to_json(const std::vector<std::string>& classes) { return nlohmann::json(classes).dump(); }

}  // namespace vrwkv
