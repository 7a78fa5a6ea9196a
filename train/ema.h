#pragma once

#include <torch/nn/module.h>

#include <map>
#include <string>
#include <vector>

#include "config/run_config.h"

namespace vrwkv::train {

/// Decay of update `n` (from 0): options.decay, with warm-up at most (1 + n) / (10 + n), as TensorFlow's
/// ExponentialMovingAverage.
double ema_decay(const config::EmaOptions& options, int64_t n);

/// An exponential moving average of a model's parameters and floating-point buffers (Polyak and Juditsky, 1992):
/// average = decay * average + (1 - decay) * weight, on the weights' device and in their dtype. It starts as a copy.
/// Other buffers are copied.
class Ema {
 public:
  Ema(torch::nn::Module& model, const config::EmaOptions& options);

  /// After optimizer step `steps_done` (from 1): an update at every options.every-th step, a function of the number
  /// alone.
  void update(int64_t steps_done);

  /// The averages by the names of the weights.
  std::map<std::string, torch::Tensor> state() const;

  /// Takes back what state() gave; throws std::runtime_error when names or shapes do not fit, and then changes nothing.
  void load_state(const std::map<std::string, torch::Tensor>& state);

  /// While it lives, the model holds the averages, and the weights are kept in their place. Addresses stay.
  class InModel {
   public:
    explicit InModel(Ema& ema);
    ~InModel();
    InModel(const InModel&) = delete;
    InModel& operator=(const InModel&) = delete;

   private:
    Ema& ema_;
  };

 private:
  void exchange();

  config::EmaOptions options_;
  std::vector<std::string> names_;
  std::vector<torch::Tensor> weights_, averages_;
};

}  // namespace vrwkv::train
