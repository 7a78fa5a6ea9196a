#pragma once

#include <string>
#include <vector>

#include "cli/flags.h"

namespace vrwkv::eval {

/// The command line of vrwkv-predict.
struct PredictFlags : cli::Flags {
  std::string checkpoint;
  std::vector<std::string> arguments;  ///< Images and overrides as they came.
  std::vector<std::string> images;
  WeightSet weights = WeightSet::raw;
  std::string top_k = "5";
  std::string classes, json, csv, annotate, save_inputs;
  std::string reconstruct;  ///< Where a masked autoencoder draws what it makes of the images.
  std::string input, output;
};

void add_predict_flags(CLI::App& app, PredictFlags& flags);

/// Sorts `arguments` into images and overrides. An argument of the form key.path=value is an override, unless a file
/// has that name; a folder stands for the images in it and below. Throws UsageError for combinations that mean nothing.
void settle(PredictFlags& flags);

}  // namespace vrwkv::eval
