#include "train/train_state.h"

#include <nlohmann/json.hpp>
#include <stdexcept>

#include "vrwkv/checkpoint/state_dict.h"
#include "vrwkv/checkpoint/weights.h"

namespace vrwkv::train {
namespace {

constexpr const char* kModel = "model.";
constexpr const char* kOptimizer = "optimizer.";
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

}  // namespace

Checkpoint make_checkpoint(const torch::nn::Module& model, const AdamW& optimizer, const TrainState& state,
                           const std::string& config_yaml, const std::map<std::string, std::string>& extra) {
  Checkpoint checkpoint;
  for (const auto& [name, tensor] : state_dict(model)) checkpoint.tensors.emplace(kModel + name, tensor);
  for (const auto& [name, tensor] : optimizer.state()) checkpoint.tensors.emplace(kOptimizer + name, tensor);
  checkpoint.metadata = extra;
  checkpoint.metadata[kConfigKey] = config_yaml;
  nlohmann::json json{{"step", state.step}, {"steps_per_epoch", state.steps_per_epoch}};
  if (state.best_score > -std::numeric_limits<double>::infinity()) json["best_score"] = state.best_score;
  checkpoint.metadata[kStateKey] = json.dump();
  return checkpoint;
}

TrainState load_checkpoint(const Checkpoint& checkpoint, torch::nn::Module& model, AdamW& optimizer) {
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
  load_state_dict(model, with_prefix(checkpoint.tensors, kModel));
  optimizer.load_state(with_prefix(checkpoint.tensors, kOptimizer));
  return state;
}

}  // namespace vrwkv::train
