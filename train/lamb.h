#pragma once

#include "train/optimizer.h"

namespace vrwkv::train {

/// LAMB (You et al., arXiv 1904.00962, algorithm 2) as timm's Lamb computes it: with AdamW's moments,
/// u = m^ / (sqrt(v^) + eps) + weight_decay * p and p -= lr * r * u. The trust ratio r is |p| / |u| for each parameter,
/// 1 where either norm is 0 and for groups without weight decay. Clipping of the gradients is clip_grad_norm.
class Lamb : public Optimizer {
 public:
  Lamb(std::vector<ParamGroup> groups, const config::OptimizerOptions& options);

 private:
  void apply(const Update& update) override;
};

}  // namespace vrwkv::train
