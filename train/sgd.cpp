#include "train/sgd.h"

#include <ATen/Functions.h>

#include "ops/optional_tensor.h"

namespace vrwkv::train {
namespace {

std::vector<std::string> buffers(double momentum) {
  return momentum > 0 ? std::vector<std::string>{"momentum_buffer"} : std::vector<std::string>{};
}

}  // namespace

Sgd::Sgd(std::vector<ParamGroup> groups, const config::OptimizerOptions& options)
    : Optimizer(std::move(groups), options, buffers(options.momentum)) {}

void Sgd::apply(const Update& update) {
  const std::vector<torch::Tensor> momentum = update.sums.empty() ? std::vector<torch::Tensor>{} : update.sums[0];
  const auto call = [&](const auto& lr) {
    // A buffer of zeros makes the first step like any other.
    at::_fused_sgd_(update.values, update.gradients, momentum, update.weight_decay, options().momentum, lr,
                    /*dampening=*/0.0, options().nesterov, /*maximize=*/false, /*is_first_step=*/false,
                    /*grad_scale=*/{}, ops::optional_tensor(update.skip));
  };
  if (update.lr_tensor.defined()) {
    call(update.lr_tensor);
  } else {
    call(update.lr);
  }
}

}  // namespace vrwkv::train
