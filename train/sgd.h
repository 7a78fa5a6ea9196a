#pragma once

#include "train/optimizer.h"

namespace vrwkv::train {

/// Stochastic gradient descent with momentum, as torch.optim.SGD without dampening (Sutskever et al., ICML 2013):
/// g += weight_decay * p, b = momentum * b + g, p -= lr * (nesterov ? g + momentum * b : b). Fused kernels, one call
/// per parameter group. Without momentum there is no buffer.
class Sgd : public Optimizer {
 public:
  Sgd(std::vector<ParamGroup> groups, const config::OptimizerOptions& options);

 private:
  void apply(const Update& update) override;
};

}  // namespace vrwkv::train
