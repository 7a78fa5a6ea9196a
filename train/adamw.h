#pragma once

#include "train/optimizer.h"

namespace vrwkv::train {

/// AdamW (Loshchilov and Hutter, arXiv 1711.05101), one call per parameter group: by the kernel of ops/adamw.h for
/// float32 parameters on a GPU, elsewhere through LibTorch's fused kernels.
class AdamW : public Optimizer {
 public:
  AdamW(std::vector<ParamGroup> groups, const config::OptimizerOptions& options);

 private:
  void apply(const Update& update) override;
  bool multiplies_gradients() const override { return has_kernel_; }

  bool has_kernel_;
};

}  // namespace vrwkv::train
