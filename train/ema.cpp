#include "train/ema.h"

#include <ATen/Functions.h>

#include <algorithm>
#include <sstream>
#include <stdexcept>

#include "vrwkv/checkpoint/state_dict.h"

namespace vrwkv::train {

double ema_decay(const config::EmaOptions& options, int64_t n) {
  if (!options.warmup) return options.decay;
  return std::min(options.decay, (1.0 + static_cast<double>(n)) / (10.0 + static_cast<double>(n)));
}

Ema::Ema(torch::nn::Module& model, const config::EmaOptions& options) : options_(options) {
  for (const auto& [name, weight] : state_dict(model)) {
    names_.push_back(name);
    weights_.push_back(weight);
    averages_.push_back(weight.clone());
  }
}

void Ema::update(int64_t steps_done) {
  if (steps_done % options_.every != 0) return;
  const torch::NoGradGuard no_grad;
  const double decay = ema_decay(options_, steps_done / options_.every - 1);
  std::vector<torch::Tensor> averages, weights;
  for (size_t i = 0; i < weights_.size(); ++i) {
    if (weights_[i].is_floating_point()) {
      averages.push_back(averages_[i]);
      weights.push_back(weights_[i]);
    } else {
      averages_[i].copy_(weights_[i]);
    }
  }
  at::_foreach_lerp_(averages, weights, 1 - decay);
}

std::map<std::string, torch::Tensor> Ema::state() const {
  std::map<std::string, torch::Tensor> state;
  for (size_t i = 0; i < names_.size(); ++i) state.emplace(names_[i], averages_[i]);
  return state;
}

void Ema::load_state(const std::map<std::string, torch::Tensor>& state) {
  std::ostringstream problems;
  for (size_t i = 0; i < names_.size(); ++i) {
    const auto found = state.find(names_[i]);
    if (found == state.end()) {
      problems << "\n  missing ema." << names_[i];
    } else if (found->second.sizes() != averages_[i].sizes()) {
      problems << "\n  ema." << names_[i] << ": expected shape " << averages_[i].sizes() << ", got "
               << found->second.sizes();
    }
  }
  for (const auto& [name, value] : state) {
    if (std::ranges::find(names_, name) == names_.end()) problems << "\n  unexpected ema." << name;
  }
  if (!problems.str().empty()) {
    throw std::runtime_error(
        "the moving average of the weights does not fit; resume with the train.ema.enabled that the run was started "
        "with:" +
        problems.str());
  }
  const torch::NoGradGuard no_grad;
  for (size_t i = 0; i < names_.size(); ++i) averages_[i].copy_(state.at(names_[i]));
}

void Ema::exchange() {
  const torch::NoGradGuard no_grad;
  for (size_t i = 0; i < weights_.size(); ++i) {
    const torch::Tensor weight = weights_[i].clone();
    weights_[i].copy_(averages_[i]);
    averages_[i].copy_(weight);
  }
}

Ema::InModel::InModel(Ema& ema) : ema_(ema) { ema_.exchange(); }

Ema::InModel::~InModel() { ema_.exchange(); }

}  // namespace vrwkv::train
