#include "train/lamb.h"

#include <ATen/Functions.h>

namespace vrwkv::train {
namespace {

using Tensors = std::vector<torch::Tensor>;

/// Trust ratio of each parameter: [parameters].
torch::Tensor trust_ratios(const Tensors& values, const Tensors& updates, double weight_decay) {
  const torch::Tensor value_norms = torch::stack(at::_foreach_norm(values, 2));
  if (weight_decay == 0) return torch::ones_like(value_norms);
  const torch::Tensor update_norms = torch::stack(at::_foreach_norm(updates, 2));
  const torch::Tensor usable = (value_norms > 0).logical_and(update_norms > 0);
  return torch::where(usable, value_norms / update_norms, torch::ones_like(value_norms));
}

/// Writes `next` over `old`, except where `skip` is 1.
void replace(const Tensors& old, const Tensors& next, const torch::Tensor& skip) {
  if (!skip.defined()) {
    at::_foreach_copy_(old, next);
    return;
  }
  const torch::Tensor keep = skip > 0;
  for (size_t i = 0; i < old.size(); ++i) old[i].copy_(torch::where(keep, old[i], next[i]));
}

}  // namespace

Lamb::Lamb(std::vector<ParamGroup> groups, const config::OptimizerOptions& options)
    : Optimizer(std::move(groups), options, {"exp_avg", "exp_avg_sq"}) {}

void Lamb::apply(const Update& update) {
  const auto [beta1, beta2] = options().betas;
  const Tensors m = at::_foreach_lerp(update.sums[0], update.gradients, 1 - beta1);
  const Tensors v = at::_foreach_mul(update.sums[1], beta2);
  at::_foreach_addcmul_(v, update.gradients, update.gradients, 1 - beta2);

  // In float64, as 1 - beta^t cancels; 0-d, so that the parameters keep their dtype.
  const torch::Tensor t = update.steps.to(torch::kDouble);
  const auto dtype = update.values.front().scalar_type();
  const Tensors denominators = at::_foreach_sqrt(v);
  at::_foreach_div_(denominators, (1 - torch::pow(beta2, t)).sqrt().to(dtype));
  at::_foreach_add_(denominators, options().eps);
  const Tensors updates = at::_foreach_div(m, (1 - torch::pow(beta1, t)).to(dtype));
  at::_foreach_div_(updates, denominators);
  if (update.weight_decay != 0) at::_foreach_add_(updates, update.values, update.weight_decay);

  const torch::Tensor trust = trust_ratios(update.values, updates, update.weight_decay);
  const torch::Tensor lengths = update.lr_tensor.defined() ? trust * update.lr_tensor : trust * update.lr;
  at::_foreach_mul_(updates, lengths.unbind());
  replace(update.values, at::_foreach_sub(update.values, updates), update.skip);
  replace(update.sums[0], m, update.skip);
  replace(update.sums[1], v, update.skip);
}

}  // namespace vrwkv::train
