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

nlohmann::json to_json(const WatchState& watch) {
  return {{"losses", watch.losses},     {"grad_norms", watch.grad_norms}, {"skip_above", watch.skip_above},
          {"in_a_row", watch.in_a_row}, {"rollbacks", watch.rollbacks},   {"passed_over", watch.passed_over}};
}

WatchState watch_from(const nlohmann::json& json) {
  WatchState watch;
  json.at("losses").get_to(watch.losses);
  json.at("grad_norms").get_to(watch.grad_norms);
  json.at("skip_above").get_to(watch.skip_above);
  json.at("in_a_row").get_to(watch.in_a_row);
  json.at("rollbacks").get_to(watch.rollbacks);
  json.at("passed_over").get_to(watch.passed_over);
  return watch;
}

}  // namespace

std::string to_text(const TrainState& state) {
  nlohmann::json json{{"step", state.step}, {"steps_per_epoch", state.steps_per_epoch}};
  if (state.best_score > -std::numeric_limits<double>::infinity()) json["best_score"] = state.best_score;
  if (state.watch != WatchState()) json["watch"] = to_json(state.watch);
  return json.dump();
}

Checkpoint make_checkpoint(const Trained& trained, const std::map<std::string, torch::Tensor>& optimizer_state,
                           const TrainState& state, const std::string& config_yaml,
                           const std::map<std::string, std::string>& extra) {
  Checkpoint checkpoint;
  add(checkpoint, kModel, state_dict(trained.model));
  add(checkpoint, kOptimizer, optimizer_state);
  if (trained.ema != nullptr) add(checkpoint, kEma, trained.ema->state());
  if (trained.loss_scale != nullptr) add(checkpoint, kLossScale, trained.loss_scale->state());
  checkpoint.metadata = extra;
  checkpoint.metadata[kConfigKey] = config_yaml;
  checkpoint.metadata[kStateKey] = to_text(state);
  return checkpoint;
}

std::map<std::string, torch::Tensor> optimizer_state(const Checkpoint& checkpoint) {
  return with_prefix(checkpoint.tensors, kOptimizer);
}

TrainState state_from_text(const std::string& text) {
  TrainState state;
  try {
    const auto json = nlohmann::json::parse(text);
    state.step = json.at("step");
    state.steps_per_epoch = json.at("steps_per_epoch");
    state.best_score = json.value("best_score", state.best_score);
    if (json.contains("watch")) state.watch = watch_from(json["watch"]);
  } catch (const nlohmann::json::exception& error) {
    throw std::runtime_error(std::string("the training state in the checkpoint cannot be read: ") + error.what());
  }
  if (state.step < 0 || state.steps_per_epoch < 1) {
    throw std::runtime_error("the training state in the checkpoint is out of range: " + text);
  }
  return state;
}

TrainState load_checkpoint(const Checkpoint& checkpoint, const Trained& trained) {
  const auto text = checkpoint.metadata.find(kStateKey);
  if (text == checkpoint.metadata.end()) {
    throw std::runtime_error(
        "the file holds weights but no training state; a run resumes from its own checkpoints (last.safetensors)");
  }
  const TrainState state = state_from_text(text->second);
  load_state_dict(trained.model, with_prefix(checkpoint.tensors, kModel));
  trained.optimizer.load_state(optimizer_state(checkpoint));
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
