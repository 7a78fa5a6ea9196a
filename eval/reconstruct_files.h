#pragma once

#include <functional>
#include <string>

#include "config/run_config.h"
#include "eval/precision.h"
#include "eval/predict_flags.h"
#include "vrwkv/checkpoint/weights.h"

namespace vrwkv::eval {

/// Throws UsageError when the task of `config` and the flags of vrwkv-predict do not go together.
void check_task(const PredictFlags& flags, const config::RunConfig& config);

/// vrwkv-predict --reconstruct: draws the images that can be read, with the configuration's evaluation transform, see
/// draw_reconstructions(). `unreadable` is told of the others. Returns whether all could. Throws std::runtime_error
/// when none could, or for weights of another model.
bool reconstruct_files(const PredictFlags& flags, const config::RunConfig& config, const ModelWeights& weights,
                       const Precision& precision, const std::function<void(const std::string& message)>& unreadable);

}  // namespace vrwkv::eval
