#pragma once

#include <string>

#include "cli/flags.h"

namespace vrwkv::deploy {

/// The command line of vrwkv-export.
struct ExportFlags : cli::Flags {
  std::string checkpoint, output;
  WeightSet weights = WeightSet::raw;
  std::string size;  ///< N or HxW in pixels; empty: data.eval_transform.size.
};

void add_export_flags(CLI::App& app, ExportFlags& flags);

/// Writes the classifier of a checkpoint as a program of its own: TorchScript for an output that ends in .pt, ONNX for
/// .onnx. Both hold the configuration (`config`, YAML), the class names where there are any (`classes`, JSON) and how
/// an image becomes the input (`preprocessing`, JSON). Returns what was written, one line. Throws UsageError for wrong
/// flags, std::runtime_error that names the file when it cannot be read or written.
std::string export_model(const ExportFlags& flags);

}  // namespace vrwkv::deploy
