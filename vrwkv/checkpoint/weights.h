#pragma once

#include <torch/types.h>

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "vrwkv/options.h"

namespace vrwkv {

/// A model's weights as a file gives them.
struct ModelWeights {
  std::map<std::string, torch::Tensor> tensors;  ///< By the published names (backbone.*, head.*).
  std::vector<std::string> classes;              ///< Class names in label order; empty when the file has none.
};

/// Reads weights from one of our training checkpoints (tensors model.*) or from a plain .safetensors file with
/// published names, with or without their `backbone.`; a `module.` in front, as PyTorch's wrappers leave it, is taken
/// off. WeightSet::ema takes the tensors ema.* in place of model.*. Throws std::runtime_error for a damaged file,
/// another format, or a file without the weights asked for, with what to do.
ModelWeights read_model_weights(const std::filesystem::path& path, WeightSet set = WeightSet::raw);

/// The metadata entry that holds class names in label order, a JSON list.
inline constexpr const char* kClassesKey = "classes";

std::string classes_to_json(const std::vector<std::string>& classes);

}  // namespace vrwkv
