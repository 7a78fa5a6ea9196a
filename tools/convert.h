#pragma once

#include <c10/core/ScalarType.h>

#include <filesystem>
#include <optional>
#include <string>

#include "vrwkv/options.h"

namespace vrwkv::tools {

struct ConvertOptions {
  std::filesystem::path input, output;
  WeightSet weights = WeightSet::raw;
  std::optional<at::ScalarType> dtype;  ///< Of the floating point tensors; none: as they are.
};

/// The format that a file's ending names: .safetensors, .pth or .pt. Throws UsageError for another one.
enum class FileFormat { safetensors, pth };
FileFormat format_of(const std::filesystem::path& path);

/// Writes the weights of one file (anything that read_model_weights takes) to another, under their published names and
/// bit by bit unless `dtype` asks for a rounding; the classes and the configuration go along as metadata. Returns one
/// line that says what was written. Throws UsageError for a bad path.
std::string convert(const ConvertOptions& options);

}  // namespace vrwkv::tools
