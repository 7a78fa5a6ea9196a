#pragma once

#include <torch/nn/module.h>

#include <cstdint>
#include <limits>
#include <map>
#include <string>

#include "train/adamw.h"
#include "train/checkpoint_store.h"

namespace vrwkv::train {

/// Where a run stands. With the weights and the optimizer's moments this is all that resuming needs: the order of the
/// data and every random draw are functions of (seed, epoch, step).
struct TrainState {
  int64_t step = 0;  ///< Optimizer steps done.
  int64_t steps_per_epoch = 0;
  double best_score = -std::numeric_limits<double>::infinity();

  int64_t epoch() const { return step / steps_per_epoch; }          ///< The epoch of the next step.
  int64_t step_in_epoch() const { return step % steps_per_epoch; }  ///< Steps of it already done.
};

/// A checkpoint of everything: tensors model.*, optimizer.*; metadata train_state (JSON), config (YAML) and `extra`.
Checkpoint make_checkpoint(const torch::nn::Module& model, const AdamW& optimizer, const TrainState& state,
                           const std::string& config_yaml, const std::map<std::string, std::string>& extra);

/// Puts a checkpoint back into model and optimizer and returns its state. Throws std::runtime_error, with nothing half
/// loaded in the model, when names or shapes do not fit.
TrainState load_checkpoint(const Checkpoint& checkpoint, torch::nn::Module& model, AdamW& optimizer);

}  // namespace vrwkv::train
