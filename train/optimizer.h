#pragma once

#include <torch/types.h>

#include <map>
#include <string>
#include <vector>

#include "config/run_config.h"
#include "train/param_groups.h"

namespace vrwkv::train {

/// What all optimizers share: groups with their learning rates, gradients, running sums and the count of steps, which
/// are the state that is saved. A subclass adds the formula.
class Optimizer {
 public:
  virtual ~Optimizer() = default;
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;

  /// Of the following steps, before the first call options.lr; multiplied by each group's lr_scale.
  void set_learning_rate(double lr);

  /// One update with the parameters' .grad. A parameter without a gradient keeps its value and its sums. With `skip`, a
  /// 0-d float32 tensor on the parameters' device, nothing changes where it is 1, not even the count of steps, and it
  /// must be 0 otherwise; the host does not wait for it.
  void step(const torch::Tensor& skip = {});

  /// Frees all gradients.
  void zero_grad();

  /// Multiplies all gradients by `factor`, a 0-d tensor on their device. Where the optimizer multiplies them as it
  /// reads them (AdamW on CUDA), .grad stays as it is, and the factor counts until the next step() or zero_grad().
  void scale_gradients(const torch::Tensor& factor);

  /// Scales the gradients so that their global 2-norm is at most `max_norm` and returns the norm before; 0: measure
  /// only. As scale_gradients(). Stays on the device: the host does not wait for the result, a 0-d tensor of the
  /// gradients' dtype.
  torch::Tensor clip_grad_norm(double max_norm);

  /// The running sums, named SUM.<parameter> (exp_avg, exp_avg_sq; momentum_buffer of sgd), and the number of steps
  /// taken, named step. Without those of parameters that another process updates.
  std::map<std::string, torch::Tensor> state() const;

  /// Takes back the state of all parameters; those of other processes are checked only. Throws std::runtime_error that
  /// lists every missing, unexpected and mis-shaped name.
  void load_state(const std::map<std::string, torch::Tensor>& state);

  /// The SUMs that are kept of each parameter.
  const std::vector<std::string>& sums() const { return sums_; }

 protected:
  /// `sums`: names of the tensors that are kept for each parameter, of its shape and zero at the start.
  Optimizer(std::vector<ParamGroup> groups, const config::OptimizerOptions& options, std::vector<std::string> sums);

  /// The parameters of a group that have a gradient and are updated here.
  struct Update {
    std::vector<torch::Tensor> values, gradients;
    std::vector<std::vector<torch::Tensor>> sums;  ///< One list for each name of a sum.
    double weight_decay;
    double lr;
    torch::Tensor lr_tensor;     ///< 0-d float32, to be used in place of `lr` where it is defined.
    const torch::Tensor& steps;  ///< 0-d float32: steps with this one.
    const torch::Tensor& skip;   ///< As of step(); may be undefined.
    /// 0-d float32: the gradients are to be multiplied by one after the other. Empty unless multiplies_gradients().
    const std::vector<torch::Tensor>& factors;
  };

  /// Changes values and sums of `update` by the formula, unless it is to be skipped.
  virtual void apply(const Update& update) = 0;

  /// Whether apply() takes factors.
  virtual bool multiplies_gradients() const { return false; }

  const config::OptimizerOptions& options() const { return options_; }

 private:
  struct Group {
    ParamGroup settings;
    std::vector<std::vector<torch::Tensor>> sums;  ///< Undefined for parameters that are not updated here.
    /// 0-d float32 beside float32 parameters on a GPU, so that a recorded step follows it; else undefined.
    torch::Tensor lr;
  };

  template <typename F>
  void for_each_state(const F& visit) const;
  std::vector<torch::Tensor> gradients() const;

  std::vector<Group> groups_;
  config::OptimizerOptions options_;
  std::vector<std::string> sums_;
  double lr_ = 0;
  std::vector<torch::Tensor> factors_;  ///< Of the present gradients.
  torch::Tensor steps_;                 ///< 0-d float32 on the parameters' device, as the fused kernels want it.
};

}  // namespace vrwkv::train
