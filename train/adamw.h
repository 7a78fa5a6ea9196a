#pragma once

#include "train/optimizer.h"

namespace vrwkv::train {

/// AdamW (Loshchilov and Hutter, arXiv 1711.05101) through LibTorch's fused kernels: one call per parameter group.
class AdamW : public Optimizer {
 public:
  AdamW(std::vector<ParamGroup> groups, const config::OptimizerOptions& options);

 private:
  void apply(const Update& update) override;
};

}  // namespace vrwkv::train
