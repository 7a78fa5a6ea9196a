#pragma once

#include "config/run_config.h"
#include "eval/eval_flags.h"

namespace vrwkv::eval {

/// vrwkv-eval for task mae: the reconstruction loss of every checkpoint on data.val, each printed as soon as it is
/// known; --json receives {"checkpoint", "weights", "images", "loss"}, a list for several. Throws UsageError for flags
/// that need classes.
void run_autoencoder_evaluations(const EvalFlags& flags, const config::RunConfig& config);

}  // namespace vrwkv::eval
