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
  std::map<std::string, torch::Tensor>
      tensors;                            ///< By the published names (backbone.*, head.*; of autoencoders without).
  std::vector<std::string> classes = {};  ///< Class names in label order; empty when the file has none.
  std::map<std::string, std::string> metadata = {};  ///< What the file says besides; kWkvKey is always there.
};

/// Reads weights from one of our training checkpoints (tensors model.*; for WeightSet::ema, ema.*), from a plain
/// .safetensors file with published names, or from a .pth file as they are published (pth.h); names with or without
/// their `backbone.`, and without the `module.` or `_orig_mod.` that PyTorch's wrappers leave in front. Throws
/// std::runtime_error for a damaged file, another format, or a file without the weights asked for, with what to do.
ModelWeights read_model_weights(const std::filesystem::path& path, WeightSet set = WeightSet::raw);

/// The metadata entry that holds class names in label order, a JSON list.
inline constexpr const char* kClassesKey = "classes";

/// The metadata entry that says which formula of Bi-WKV the weights were trained with: `paper` or `published`. A .pth
/// file without one counts as published, any other file as the paper's.
inline constexpr const char* kWkvKey = "wkv";
inline constexpr const char* kWkvPaper = "paper";
inline constexpr const char* kWkvPublished = "published";

/// The metadata entry that holds the run's configuration, YAML.
inline constexpr const char* kConfigKey = "config";

std::string classes_to_json(const std::vector<std::string>& classes);

}  // namespace vrwkv
