#include "train/optimizer.h"

#include <ATen/Functions.h>

#include <set>
#include <sstream>
#include <stdexcept>
#include <utility>

#include "ops/gradient_norm.h"

namespace vrwkv::train {

Optimizer::Optimizer(std::vector<ParamGroup> groups, const config::OptimizerOptions& options,
                     std::vector<std::string> sums)
    : options_(options), sums_(std::move(sums)) {
  TORCH_CHECK(!groups.empty() && !groups.front().parameters.empty(), "Optimizer: there is no parameter to train");
  for (auto& settings : groups) {
    Group group{std::move(settings), std::vector<std::vector<torch::Tensor>>(sums_.size()), {}};
    for (auto& sum : group.sums) {
      for (const auto& parameter : group.settings.parameters) {
        sum.push_back(parameter.updated_here ? torch::zeros_like(parameter.value) : torch::Tensor());
      }
    }
    if (!group.settings.parameters.empty()) {
      const torch::Tensor like = group.settings.parameters.front().value.detach();
      if (like.is_cuda() && like.scalar_type() == torch::kFloat) group.lr = torch::zeros({}, like.options());
    }
    groups_.push_back(std::move(group));
  }
  const torch::Tensor& first = groups_.front().settings.parameters.front().value;
  steps_ = torch::zeros({}, torch::TensorOptions(torch::kFloat).device(first.device()));
  set_learning_rate(options_.lr);
}

void Optimizer::set_learning_rate(double lr) {
  lr_ = lr;
  for (const auto& group : groups_) {
    if (group.lr.defined()) group.lr.fill_(lr * group.settings.lr_scale);
  }
}

void Optimizer::step(const torch::Tensor& skip) {
  const torch::NoGradGuard no_grad;
  if (skip.defined()) {
    steps_.add_(1 - skip);
  } else {
    steps_.add_(1);
  }
  const std::vector<torch::Tensor> factors = std::exchange(factors_, {});
  for (const auto& group : groups_) {
    Update update{{},
                  {},
                  std::vector<std::vector<torch::Tensor>>(sums_.size()),
                  group.settings.weight_decay,
                  lr_ * group.settings.lr_scale,
                  group.lr,
                  steps_,
                  skip,
                  factors};
    for (size_t i = 0; i < group.settings.parameters.size(); ++i) {
      const auto& [name, value, updated_here] = group.settings.parameters[i];
      if (!updated_here || !value.grad().defined()) continue;
      update.values.push_back(value);
      update.gradients.push_back(value.grad());
      for (size_t sum = 0; sum < sums_.size(); ++sum) update.sums[sum].push_back(group.sums[sum][i]);
    }
    if (!update.values.empty()) apply(update);
  }
}

void Optimizer::zero_grad() {
  factors_.clear();
  for (auto& group : groups_) {
    for (auto& parameter : group.settings.parameters) parameter.value.mutable_grad() = torch::Tensor();
  }
}

std::vector<torch::Tensor> Optimizer::gradients() const {
  std::vector<torch::Tensor> gradients;
  for (const auto& group : groups_) {
    for (const auto& parameter : group.settings.parameters) {
      if (parameter.value.grad().defined()) gradients.push_back(parameter.value.grad());
    }
  }
  TORCH_CHECK(!gradients.empty(), "Optimizer: no parameter has a gradient; call it after the backward pass");
  return gradients;
}

void Optimizer::scale_gradients(const torch::Tensor& factor) {
  const torch::NoGradGuard no_grad;
  if (multiplies_gradients()) {
    factors_.push_back(factor);
  } else {
    at::_foreach_mul_(gradients(), factor);
  }
}

torch::Tensor Optimizer::clip_grad_norm(double max_norm) {
  const torch::NoGradGuard no_grad;
  const std::vector<torch::Tensor> all = gradients();
  if (multiplies_gradients()) {
    const auto [norm, coefficient] = ops::gradient_norm(all, factors_, max_norm);
    if (max_norm > 0) factors_.push_back(coefficient);
    return norm;
  }
  const torch::Tensor norm = torch::stack(at::_foreach_norm(all, 2)).norm();
  if (max_norm > 0) at::_foreach_mul_(all, torch::clamp_max(max_norm / (norm + 1e-6), 1.0));
  return norm;
}

/// Calls visit(name, tensor of its shape, tensor or an undefined one).
template <typename F>
void Optimizer::for_each_state(const F& visit) const {
  for (const auto& group : groups_) {
    for (size_t i = 0; i < group.settings.parameters.size(); ++i) {
      for (size_t sum = 0; sum < sums_.size(); ++sum) {
        const NamedParameter& parameter = group.settings.parameters[i];
        visit(sums_[sum] + "." + parameter.name, parameter.value, group.sums[sum][i]);
      }
    }
  }
  visit("step", steps_, steps_);
}

std::map<std::string, torch::Tensor> Optimizer::state() const {
  std::map<std::string, torch::Tensor> state;
  for_each_state([&](const std::string& name, const torch::Tensor& /*like*/, const torch::Tensor& value) {
    if (value.defined()) state.emplace(name, value);
  });
  return state;
}

void Optimizer::load_state(const std::map<std::string, torch::Tensor>& state) {
  std::ostringstream problems;
  std::set<std::string> known;
  for_each_state([&](const std::string& name, const torch::Tensor& like, const torch::Tensor& /*value*/) {
    known.insert(name);
    const auto found = state.find(name);
    if (found == state.end()) {
      problems << "\n  missing " << name;
    } else if (found->second.sizes() != like.sizes()) {
      problems << "\n  " << name << ": expected shape " << like.sizes() << ", got " << found->second.sizes();
    }
  });
  for (const auto& [name, value] : state) {
    if (!known.contains(name)) problems << "\n  unexpected " << name;
  }
  if (!problems.str().empty()) {
    throw std::runtime_error("the optimizer state does not fit this model and configuration:" + problems.str());
  }
  const torch::NoGradGuard no_grad;
  for_each_state([&](const std::string& name, const torch::Tensor& /*like*/, torch::Tensor value) {
    if (value.defined()) value.copy_(state.at(name));
  });
}

}  // namespace vrwkv::train
