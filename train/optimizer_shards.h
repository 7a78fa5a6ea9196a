#pragma once

#include <torch/types.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "distributed/world.h"
#include "train/optimizer.h"
#include "train/param_groups.h"

namespace vrwkv::train {

/// Divides the optimizer's running sums between the processes: each keeps those of some parameters, updates these
/// parameters and gives them to the others (stage 1 of ZeRO, Rajbhandari et al., arXiv 1910.02054). The gradients are
/// whole everywhere, so that clipping and every formula stay as they are.
///
/// All members are called by all processes together.
class OptimizerShards {
 public:
  /// Deals the parameters of `groups`, the largest first and each to whom has least, and marks there which this process
  /// updates. An optimizer is then made of `groups`.
  OptimizerShards(std::vector<ParamGroup>& groups, std::shared_ptr<distributed::World> world);

  /// After a step of the optimizer: every parameter's value comes from the process that has updated it.
  void share_weights() const;

  /// What Optimizer::state() gives where nothing is divided: in rank 0, in the host's memory. Nothing elsewhere.
  std::map<std::string, torch::Tensor> gather(const Optimizer& optimizer) const;

  /// Gives rank 0's `state`, as gather() returns it, to the optimizers. Without a state in rank 0 they stay as they
  /// are.
  void scatter(const std::map<std::string, torch::Tensor>& state, Optimizer& optimizer) const;

 private:
  struct Part {
    NamedParameter parameter;
    int64_t owner;
  };
  template <typename F>
  void for_each_sum(const Optimizer& optimizer, const F& visit) const;

  std::shared_ptr<distributed::World> world_;
  std::vector<Part> parts_;
  int64_t shard_size_ = 0;  ///< Elements of the largest share.
};

}  // namespace vrwkv::train
