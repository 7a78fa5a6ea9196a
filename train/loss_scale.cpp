#include "train/loss_scale.h"

#include <ATen/Functions.h>

#include <stdexcept>

namespace vrwkv::train {

LossScale::LossScale(const config::LossScaleOptions& options, at::Device device)
    : options_(options),
      scale_(torch::full({}, options.initial, torch::TensorOptions(torch::kFloat).device(device))),
      good_steps_(torch::zeros({}, torch::TensorOptions(torch::kInt).device(device))) {}

void LossScale::update(const torch::Tensor& skipped) {
  at::_amp_update_scale_(scale_, good_steps_, skipped, options_.growth, options_.backoff, options_.interval);
}

std::map<std::string, torch::Tensor> LossScale::state() const {
  return {{"scale", scale_}, {"good_steps", good_steps_}};
}

void LossScale::load_state(const std::map<std::string, torch::Tensor>& state) {
  for (auto& [name, value] : this->state()) {
    const auto found = state.find(name);
    if (found == state.end() || found->second.dim() != 0) {
      throw std::runtime_error("expected the loss scale (0-d tensor loss_scale." + name +
                               "), there is none; resume with the run.dtype that the run was started with");
    }
  }
  for (auto& [name, value] : this->state()) value.copy_(state.at(name));
}

}  // namespace vrwkv::train
