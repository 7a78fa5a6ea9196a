#include "train/adamw.h"

#include <ATen/Functions.h>

#include <algorithm>

#include "ops/adamw.h"
#include "ops/optional_tensor.h"

namespace vrwkv::train {
namespace {

/// Whether ops::adamw_step() takes all of `groups`.
bool fit_kernel(const std::vector<ParamGroup>& groups) {
  return std::ranges::all_of(groups, [&](const ParamGroup& group) {
    return std::ranges::all_of(group.parameters, [&](const NamedParameter& parameter) {
      const torch::Tensor& value = parameter.value;
      return value.is_cuda() && value.scalar_type() == torch::kFloat && value.is_contiguous() &&
             value.device() == groups.front().parameters.front().value.device();
    });
  });
}

}  // namespace

AdamW::AdamW(std::vector<ParamGroup> groups, const config::OptimizerOptions& options)
    : Optimizer(groups, options, {"exp_avg", "exp_avg_sq"}), has_kernel_(fit_kernel(groups)) {}

void AdamW::apply(const Update& update) {
  const auto [beta1, beta2] = options().betas;
  if (has_kernel_) {
    ops::adamw_step(update.values, update.gradients, update.sums[0], update.sums[1],
                    {.beta1 = beta1,
                     .beta2 = beta2,
                     .weight_decay = update.weight_decay,
                     .eps = options().eps,
                     .lr = update.lr_tensor,
                     .steps = update.steps,
                     .factors = update.factors,
                     .skip = update.skip});
    return;
  }
  const std::vector<torch::Tensor> steps(update.values.size(), update.steps);
  const auto call = [&](const auto& lr) {
    at::_fused_adamw_(update.values, update.gradients, update.sums[0], update.sums[1], /*max_exp_avg_sqs=*/{}, steps,
                      lr, beta1, beta2, update.weight_decay, options().eps, /*amsgrad=*/false, /*maximize=*/false,
                      /*grad_scale=*/{}, ops::optional_tensor(update.skip));
  };
  if (update.lr_tensor.defined()) {
    call(update.lr_tensor);
  } else {
    call(update.lr);
  }
}

}  // namespace vrwkv::train
