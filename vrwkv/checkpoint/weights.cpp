#include "vrwkv/checkpoint/weights.h"

#include <nlohmann/json.hpp>
#include <stdexcept>

#include "vrwkv/checkpoint/autoencoder_names.h"
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

/// A name without what PyTorch's wrappers put in front of it.
std::string bare(std::string name) {
  for (const std::string prefix : {"module.", "_orig_mod.", "module."}) {
    if (name.starts_with(prefix)) name.erase(0, prefix.size());
  }
  return name;
}

using Tensors = std::map<std::string, torch::Tensor>;

/// The tensors by their published names, also where a file leaves `backbone.` out.
Tensors published(const Tensors& tensors) {
  Tensors named;
  for (const auto& [name, tensor] : tensors) named.emplace(bare(name), tensor);
  if (is_autoencoder(named) || !named.contains("patch_embed.projection.weight")) return named;
  Tensors complete;
  for (const auto& [name, tensor] : named) {
    complete.emplace(name.starts_with("head.") ? name : "backbone." + name, tensor);
  }
  return complete;
}

/// The tensors whose names start with `prefix`, without it.
Tensors below(const Tensors& tensors, const std::string& prefix) {
  Tensors found;
  for (const auto& [name, tensor] : tensors) {
    if (name.starts_with(prefix)) found.emplace(name.substr(prefix.size()), tensor);
  }
  return found;
}

Tensors chosen(const std::filesystem::path& path, const Tensors& tensors, WeightSet set) {
  Tensors found = below(tensors, set == WeightSet::ema ? "ema." : "model.");
  if (!found.empty()) return found;
  if (set == WeightSet::raw) return tensors;  // A file of weights alone.
  throw std::runtime_error(
      path.string() +
      ": holds no averaged weights (tensors ema.*); ask for the raw ones, or name a checkpoint of a "
      "run that averages its weights");
}

}  // namespace

ModelWeights read_model_weights(const std::filesystem::path& path, WeightSet set) {
  ModelWeights weights;
  if (looks_like_pth(path)) {
    PthFile file = read_pth(path, set);
    weights.tensors = published(file.tensors);
    weights.metadata = std::move(file.metadata);
    weights.metadata.try_emplace(kWkvKey, kWkvPublished);
  } else {
    Safetensors file = read_safetensors(path);
    weights.tensors = published(chosen(path, file.tensors, set));
    weights.metadata = std::move(file.metadata);
    weights.metadata.try_emplace(kWkvKey, kWkvPaper);
  }
  weights.classes = classes_in(path, weights.metadata);
  return weights;
}

std::string classes_to_json(const std::vector<std::string>& classes) {
  // A folder's name need not be UTF-8, which JSON must be.
  return nlohmann::json(classes).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace vrwkv
