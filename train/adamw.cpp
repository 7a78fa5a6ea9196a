#include "train/adamw.h"

#include <ATen/Functions.h>

#include <set>
#include <sstream>
#include <stdexcept>

namespace vrwkv::train {

AdamW::AdamW(std::vector<ParamGroup> groups, const config::OptimizerOptions& options) : options_(options) {
  for (auto& settings : groups) {
    Group group{std::move(settings), {}, {}, {}};
    for (const auto& parameter : group.settings.parameters) {
      group.exp_avg.push_back(torch::zeros_like(parameter.value));
      group.exp_avg_sq.push_back(torch::zeros_like(parameter.value));
    }
    if (!group.exp_avg.empty()) {
      const torch::Tensor& like = group.exp_avg.front();
      if (like.is_cuda() && like.scalar_type() == torch::kFloat) group.lr = torch::zeros({}, like.options());
    }
    groups_.push_back(std::move(group));
  }
  TORCH_CHECK(!groups_.empty(), "AdamW: there is no parameter to train");
  steps_ = torch::zeros({}, groups_.front().exp_avg.front().options().dtype(torch::kFloat));
  set_learning_rate(options_.lr);
}

void AdamW::set_learning_rate(double lr) {
  lr_ = lr;
  for (const auto& group : groups_) {
    if (group.lr.defined()) group.lr.fill_(lr * group.settings.lr_scale);
  }
}

void AdamW::step() {
  const torch::NoGradGuard no_grad;
  steps_.add_(1);
  for (auto& group : groups_) {
    std::vector<torch::Tensor> values, gradients, exp_avg, exp_avg_sq;
    for (size_t i = 0; i < group.exp_avg.size(); ++i) {
      const torch::Tensor& value = group.settings.parameters[i].value;
      if (!value.grad().defined()) continue;
      values.push_back(value);
      gradients.push_back(value.grad());
      exp_avg.push_back(group.exp_avg[i]);
      exp_avg_sq.push_back(group.exp_avg_sq[i]);
    }
    if (values.empty()) continue;
    const std::vector<torch::Tensor> steps(values.size(), steps_);
    const auto update = [&](const auto& lr) {
      at::_fused_adamw_(values, gradients, exp_avg, exp_avg_sq, /*max_exp_avg_sqs=*/{}, steps, lr, options_.betas[0],
                        options_.betas[1], group.settings.weight_decay, options_.eps, /*amsgrad=*/false,
                        /*maximize=*/false);
    };
    if (group.lr.defined()) {
      update(group.lr);
    } else {
      update(lr_ * group.settings.lr_scale);
    }
  }
}

void AdamW::zero_grad() {
  for (auto& group : groups_) {
    for (auto& parameter : group.settings.parameters) parameter.value.mutable_grad() = torch::Tensor();
  }
}

std::vector<torch::Tensor> AdamW::gradients() const {
  std::vector<torch::Tensor> gradients;
  for (const auto& group : groups_) {
    for (const auto& parameter : group.settings.parameters) {
      if (parameter.value.grad().defined()) gradients.push_back(parameter.value.grad());
    }
  }
  return gradients;
}

torch::Tensor AdamW::clip_grad_norm(double max_norm) {
  const torch::NoGradGuard no_grad;
  const std::vector<torch::Tensor> all = gradients();
  TORCH_CHECK(!all.empty(), "clip_grad_norm: no parameter has a gradient; call it after the backward pass");
  const torch::Tensor norm = torch::stack(at::_foreach_norm(all, 2)).norm();
  if (max_norm > 0) at::_foreach_mul_(all, torch::clamp_max(max_norm / (norm + 1e-6), 1.0));
  return norm;
}

template <typename F>
void AdamW::for_each_moment(const F& visit) const {
  for (const auto& group : groups_) {
    for (size_t i = 0; i < group.exp_avg.size(); ++i) {
      const std::string& name = group.settings.parameters[i].name;
      visit("exp_avg." + name, group.exp_avg[i]);
      visit("exp_avg_sq." + name, group.exp_avg_sq[i]);
    }
  }
  visit("step", steps_);
}

std::map<std::string, torch::Tensor> AdamW::state() const {
  std::map<std::string, torch::Tensor> state;
  for_each_moment([&](const std::string& name, const torch::Tensor& value) { state.emplace(name, value); });
  return state;
}

void AdamW::load_state(const std::map<std::string, torch::Tensor>& state) {
  std::ostringstream problems;
  std::set<std::string> known;
  for_each_moment([&](const std::string& name, const torch::Tensor& value) {
    known.insert(name);
    const auto found = state.find(name);
    if (found == state.end()) {
      problems << "\n  missing " << name;
    } else if (found->second.sizes() != value.sizes()) {
      problems << "\n  " << name << ": expected shape " << value.sizes() << ", got " << found->second.sizes();
    }
  });
  for (const auto& [name, value] : state) {
    if (!known.contains(name)) problems << "\n  unexpected " << name;
  }
  if (!problems.str().empty()) {
    throw std::runtime_error("the optimizer state does not fit this model and configuration:" + problems.str());
  }
  const torch::NoGradGuard no_grad;
  for_each_moment([&](const std::string& name, torch::Tensor value) { value.copy_(state.at(name)); });
}

}  // namespace vrwkv::train
