#pragma once

#include <functional>
#include <string>
#include <vector>

#include "config/run_config.h"
#include "eval/precision.h"
#include "eval/predict_flags.h"
#include "vrwkv/vrwkv_classifier.h"

namespace vrwkv::eval {

/// vrwkv-predict for images: prints the predictions and writes the files that the flags name. `unreadable` is told of
/// each image that cannot be read; the others go on. Returns whether all could.
bool predict_files(const PredictFlags& flags, VrwkvClassifier model, const config::RunConfig& config,
                   const Precision& precision, const std::vector<std::string>& names,
                   const std::function<void(const std::string& message)>& unreadable);

}  // namespace vrwkv::eval
