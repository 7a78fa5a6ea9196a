#include "train/adamw.h"

#include <ATen/Functions.h>

#include "ops/optional_tensor.h"

namespace vrwkv::train {

AdamW::AdamW(std::vector<ParamGroup> groups, const config::OptimizerOptions& options)
    : Optimizer(std::move(groups), options, {"exp_avg", "exp_avg_sq"}) {}

void AdamW::apply(const Update& update) {
  const std::vector<torch::Tensor> steps(update.values.size(), update.steps);
  const auto call = [&](const auto& lr) {
    at::_fused_adamw_(update.values, update.gradients, update.sums[0], update.sums[1], /*max_exp_avg_sqs=*/{}, steps,
                      lr, options().betas[0], options().betas[1], update.weight_decay, options().eps, /*amsgrad=*/false,
                      /*maximize=*/false, /*grad_scale=*/{}, ops::optional_tensor(update.skip));
  };
  if (update.lr_tensor.defined()) {
    call(update.lr_tensor);
  } else {
    call(update.lr);
  }
}

}  // namespace vrwkv::train
