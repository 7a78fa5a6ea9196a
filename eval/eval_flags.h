#pragma once

#include <string>
#include <vector>

#include "cli/flags.h"

namespace vrwkv::eval {

/// The command line of vrwkv-eval.
struct EvalFlags : cli::Flags {
  std::vector<std::string> checkpoints;
  WeightSet weights = WeightSet::raw;
  std::string batch_size;
  std::vector<std::string> sizes;  ///< Empty: data.eval_transform.size.
  std::string crop_ratio;          ///< Empty: that of the configuration.
  std::string tta;                 ///< Empty, or flip.
  std::string labels;
  bool per_class = false;
  std::string json, csv, plot, per_class_csv, confusion;
};

void add_eval_flags(CLI::App& app, EvalFlags& flags);

/// Throws UsageError for combinations that mean nothing, and, in the process that `writes`, for files that cannot be
/// written.
void check_eval_flags(const EvalFlags& flags, bool writes);

}  // namespace vrwkv::eval
