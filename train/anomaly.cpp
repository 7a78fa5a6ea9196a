#include "train/anomaly.h"

#include <torch/utils.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <sstream>
#include <stdexcept>
#include <utility>

namespace vrwkv::train {
namespace {

/// The middle value, or the mean of the two in the middle.
double median(std::vector<double> values) {
  const auto middle = values.begin() + std::ssize(values) / 2;
  std::nth_element(values.begin(), middle, values.end());
  if (values.size() % 2 == 1) return *middle;
  return (*middle + *std::max_element(values.begin(), middle)) / 2;
}

/// Processors differ in it, and it would be printed.
double without_sign_of_nan(double value) {
  return std::isnan(value) ? std::numeric_limits<double>::quiet_NaN() : value;
}

template <typename... Parts>
std::string text_of(const Parts&... parts) {
  std::ostringstream text;
  text.precision(4);
  (text << ... << parts);
  return text.str();
}

}  // namespace

AnomalyMonitor::AnomalyMonitor(const config::AnomalyOptions& options, int64_t capacity, bool scaled)
    : options_(options), capacity_(capacity), scaled_(scaled) {}

void AnomalyMonitor::record(int64_t step, const StepResult& result, std::vector<std::string> files) {
  if (!numbers_.defined()) {
    numbers_ = torch::zeros({capacity_, 3}, torch::TensorOptions(torch::kDouble).device(result.loss.device()));
  }
  const int64_t row = std::ssize(recorded_);
  if (row == capacity_) throw std::logic_error("AnomalyMonitor: more steps than its capacity without a look");
  numbers_[row][0].copy_(result.loss);
  numbers_[row][1].copy_(result.grad_norm);
  if (result.skipped.defined()) numbers_[row][2].copy_(result.skipped);
  recorded_.push_back({step, std::move(files)});
}

std::vector<Anomaly> AnomalyMonitor::look(WatchState& state) {
  distributed::World alone;
  return look(state, alone);
}

std::vector<Anomaly> AnomalyMonitor::look(WatchState& state, distributed::World& world) {
  std::vector<Anomaly> found;
  if (recorded_.empty()) return found;
  const torch::Tensor numbers = numbers_.slice(0, 0, std::ssize(recorded_)).cpu();
  if (world.size() > 1) {
    const torch::Tensor losses = numbers.select(1, 0).clone();
    world.sum(losses);
    numbers.select(1, 0).copy_(losses / static_cast<double>(world.size()));
  }
  const auto value = numbers.accessor<double, 2>();
  for (int64_t row = 0; row < std::ssize(recorded_); ++row) {
    const double loss = without_sign_of_nan(value[row][0]), grad_norm = without_sign_of_nan(value[row][1]);
    const bool skipped = value[row][2] != 0;
    Recorded& step = recorded_[static_cast<size_t>(row)];
    last_step_ = step.step;
    last_ = {loss, grad_norm};
    std::string what = judge(state, loss, grad_norm, skipped);
    if (!what.empty()) {
      ++state.in_a_row;
      found.push_back({step.step, loss, grad_norm, std::move(what), skipped, state.in_a_row, std::move(step.files)});
      continue;
    }
    // The loss scale's overflows say nothing of the gradients.
    if (!skipped) state.in_a_row = 0;
    remember(state.losses, loss);
    if (std::isfinite(grad_norm)) remember(state.grad_norms, grad_norm);
  }
  recorded_.clear();
  return found;
}

std::string AnomalyMonitor::judge(const WatchState& state, double loss, double grad_norm, bool skipped) const {
  if (!std::isfinite(loss)) return text_of("the loss is ", loss);
  if (!std::isfinite(grad_norm)) return scaled_ ? "" : text_of("the gradient norm is ", grad_norm);
  // The device has judged the norm, by a median that was not older than the last logged step.
  if (skipped) return text_of("the gradient norm ", grad_norm, " is above the limit ", state.skip_above);
  if (options_.answer == config::AnomalyAnswer::skip) return "";
  const std::string of_loss = judge_spike("loss", loss, state.losses);
  return of_loss.empty() ? judge_spike("gradient norm", grad_norm, state.grad_norms) : of_loss;
}

std::string AnomalyMonitor::judge_spike(const char* name, double value, const std::vector<double>& window) const {
  const std::optional<double> most = limit(window);
  if (!most || value <= *most) return "";
  const double middle = median(window);
  return text_of("the ", name, " ", value, " is ", value / middle, " times its median ", middle, " over ",
                 window.size(), " steps");
}

/// Nothing until the window is full.
std::optional<double> AnomalyMonitor::limit(const std::vector<double>& window) const {
  if (!options_.spike_factor || std::ssize(window) < options_.window) return std::nullopt;
  return *options_.spike_factor * median(window);
}

void AnomalyMonitor::remember(std::vector<double>& window, double value) const {
  if (!options_.spike_factor) return;
  window.push_back(value);
  if (std::ssize(window) > options_.window) window.erase(window.begin());
}

void AnomalyMonitor::clear() {
  recorded_.clear();
  last_step_.reset();
}

std::optional<AnomalyMonitor::Reading> AnomalyMonitor::reading(int64_t step) const {
  return last_step_ == step ? std::optional(last_) : std::nullopt;
}

double AnomalyMonitor::skip_above(const WatchState& state) const {
  constexpr double kMost = std::numeric_limits<float>::max();
  if (options_.answer != config::AnomalyAnswer::skip) return kMost;
  return std::min(limit(state.grad_norms).value_or(kMost), kMost);
}

}  // namespace vrwkv::train
