#include "train/train_state.h"

#include <nlohmann/json.hpp>
#include <stdexcept>

#include "vrwkv/checkpoint/state_dict.h"
#include "vrwkv/checkpoint/weights.h"

namespace vrwkv::train {
namespace {

constexpr const char* kModel = "model.";
constexpr const char* kOptimizer = "optimizer.";
constexpr const char* kEma = "ema.";
constexpr const char* kLossScale = "loss_scale.";
constexpr const char* kStateKey = "train_state";

/// The tensors whose names start with `prefix`, without it.
std::map<std::string, torch::Tensor> with_prefix(const std::map<std::string, torch::Tensor>& tensors,
                                                 const std::string& prefix) {
  std::map<std::string, torch::Tensor> found;
  for (const auto& [name, tensor] : tensors) {
    if (name.starts_with(prefix)) found.emplace(name.substr(prefix.size()), tensor);
  }
  return found;
}

void add(Checkpoint& checkpoint, const char* prefix, const std::map<std::string, torch::Tensor>& tensors) {
  for (const auto& [name, tensor] : tensors) checkpoint.tensors.emplace(prefix + name, tensor);
}

}  // namespace

Checkpoint make_checkpoint(const Trained& trained, const TrainState& state, const std::string& config_yaml,
                           const std::map<std::string, std::string>& extra) {
  Checkpoint checkpoint;
  add(checkpoint, kModel, state_dict(trained.model));
  add(checkpoint, kOptimizer, trained.optimizer.state());
  if (trained.ema != nullptr) add(checkpoint, kEma, trained.ema->state());
  if (trained.loss_scale != nullptr) add(checkpoint, kLossScale, trained.loss_scale->state());
  checkpoint.metadata = extra;
  checkpoint.metadata[kConfigKey] = config_yaml;
  nlohmann::json json{{"step", state.step}, {"steps_per_epoch", state.steps_per_epoch}};
  if (state.best_score > -std::numeric_limits<double>::infinity()) json["best_score"] = state.best_score;
  checkpoint.metadata[kStateKey] = json.dump();
  return checkpoint;
}

TrainState load_checkpoint(const Checkpoint& checkpoint, const Trained& trained) {
  const auto text = checkpoint.metadata.find(kStateKey);
  if (text == checkpoint.metadata.end()) {
    throw std::runtime_error(
        "the file holds weights but no training state; a run resumes from its own checkpoints (last.safetensors)");
  }
  TrainState state;
  try {
    const auto json = nlohmann::json::parse(text->second);
    state.step = json.at("step");
    state.steps_per_epoch = json.at("steps_per_epoch");
    state.best_score = json.value("best_score", state.best_score);
  } catch (const nlohmann::json::exception& error) {
    throw std::runtime_error(std::string("the training state in the checkpoint cannot be read: ") + error.what());
  }
  if (state.step < 0 || state.steps_per_epoch < 1) {
    throw std::runtime_error("the training state in the checkpoint is out of range: " + text->second);
  }
  load_state_dict(trained.model, with_prefix(checkpoint.tensors, kModel));
  trained.optimizer.load_state(with_prefix(checkpoint.tensors, kOptimizer));
  const auto averages = with_prefix(checkpoint.tensors, kEma);
  if (trained.ema != nullptr) {
    trained.ema->load_state(averages);
  } else if (!averages.empty()) {
    throw std::runtime_error(
        "the run keeps a moving average of its weights, which train.ema.enabled=false would lose; resume with "
        "train.ema.enabled=true, or start a new run from these weights (model.init_from)");
  }
  if (trained.loss_scale != nullptr) trained.loss_scale->load_state(with_prefix(checkpoint.tensors, kLossScale));
  return state;
}

}  // namespace vrwkv::train
