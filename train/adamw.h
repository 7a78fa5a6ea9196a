#pragma once

#include <torch/types.h>

#include <map>
#include <string>
#include <vector>

#include "config/run_config.h"
#include "train/param_groups.h"

namespace vrwkv::train {

/// AdamW (Loshchilov and Hutter, arXiv 1711.05101) through LibTorch's fused kernels: one call per parameter group.
class AdamW {
 public:
  AdamW(std::vector<ParamGroup> groups, const config::OptimizerOptions& options);

  /// Of the following steps, before the first call options.lr; multiplied by each group's lr_scale.
  void set_learning_rate(double lr);

  /// One update with the parameters' .grad. A parameter without a gradient keeps its value and its moments.
  void step();

  /// Frees all gradients.
  void zero_grad();

  /// Scales the gradients so that their global 2-norm is at most `max_norm` and returns the norm before; 0: measure
  /// only. Stays on the device: the host does not wait for the result, a 0-d tensor of the gradients' dtype.
  torch::Tensor clip_grad_norm(double max_norm);

  /// The moments, named exp_avg.<parameter>, exp_avg_sq.<parameter>, and the number of steps taken, named step.
  std::map<std::string, torch::Tensor> state() const;

  /// Takes back what state() gave; throws std::runtime_error that lists every missing, unexpected and mis-shaped name.
  void load_state(const std::map<std::string, torch::Tensor>& state);

 private:
  struct Group {
    ParamGroup settings;
    std::vector<torch::Tensor> exp_avg, exp_avg_sq;
    /// 0-d float32 beside float32 parameters on a GPU, so that a recorded step follows it; else undefined.
    torch::Tensor lr;
  };

  template <typename F>
  void for_each_moment(const F& visit) const;
  std::vector<torch::Tensor> gradients() const;

  std::vector<Group> groups_;
  config::OptimizerOptions options_;
  double lr_ = 0;
  torch::Tensor steps_;  ///< 0-d float32 on the parameters' device, as the fused kernel wants it.
};

}  // namespace vrwkv::train
