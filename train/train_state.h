#pragma once

#include <torch/nn/module.h>

#include <cstdint>
#include <limits>
#include <map>
#include <string>

#include "train/anomaly.h"
#include "train/checkpoint_store.h"
#include "train/ema.h"
#include "train/loss_scale.h"
#include "train/optimizer.h"

namespace vrwkv::train {

/// Where a run stands. With the weights and the optimizer's moments this is all that resuming needs: the order of the
/// data and every random draw are functions of (seed, epoch, step).
struct TrainState {
  int64_t step = 0;  ///< Optimizer steps done.
  int64_t steps_per_epoch = 0;
  double best_score = -std::numeric_limits<double>::infinity();
  WatchState watch;

  int64_t epoch() const { return step / steps_per_epoch; }          ///< The epoch of the next step.
  int64_t step_in_epoch() const { return step % steps_per_epoch; }  ///< Steps of it already done.
};

/// The state as JSON, and back; throws std::runtime_error for another text.
std::string to_text(const TrainState& state);
TrainState state_from_text(const std::string& text);

/// What a run changes; without a moving average or a loss scale those are null.
struct Trained {
  torch::nn::Module& model;
  Optimizer& optimizer;
  Ema* ema = nullptr;
  LossScale* loss_scale = nullptr;
};

/// A checkpoint of everything: tensors model.*, optimizer.* (`optimizer_state`, as Optimizer::state() names it), ema.*,
/// loss_scale.*; metadata train_state (JSON), config (YAML) and `extra`.
Checkpoint make_checkpoint(const Trained& trained, const std::map<std::string, torch::Tensor>& optimizer_state,
                           const TrainState& state, const std::string& config_yaml,
                           const std::map<std::string, std::string>& extra);

/// The optimizer's state in a checkpoint.
std::map<std::string, torch::Tensor> optimizer_state(const Checkpoint& checkpoint);

/// Puts a checkpoint back into what it was made of and returns its state. Throws std::runtime_error, with nothing half
/// loaded in the model, when names or shapes do not fit.
TrainState load_checkpoint(const Checkpoint& checkpoint, const Trained& trained);

}  // namespace vrwkv::train
