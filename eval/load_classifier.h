#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "eval/evaluator.h"

namespace vrwkv::eval {

/// A classifier in evaluation mode with a file's weights.
struct LoadedClassifier {
  VrwkvClassifier model{nullptr};
  std::vector<std::string> classes;  ///< Names in label order; empty when the file has none.
};

/// Builds the configured model and loads `checkpoint` (a training checkpoint or published names). Throws UsageError when
/// the file is missing or was made for another number of classes, std::runtime_error when it is damaged or its tensors do
/// not fit (all of them listed).
LoadedClassifier load_classifier(const config::RunConfig& config, const std::filesystem::path& checkpoint,
                                 const Precision& precision);

}  // namespace vrwkv::eval
