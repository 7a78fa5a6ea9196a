#pragma once

#include <torch/types.h>

#include <functional>
#include <vector>

#include "train/loss_scale.h"
#include "train/optimizer.h"

namespace vrwkv::train {

/// All are 0-d tensors on the device, so that a step does not wait for them.
struct StepResult {
  torch::Tensor loss;       ///< Mean over the whole batch, before the update.
  torch::Tensor grad_norm;  ///< Global 2-norm before clipping, without the loss scale.
  torch::Tensor skipped;    ///< float32, 1 when the update was skipped, else 0; undefined without `skip_above`.
};

/// One optimizer step over `parts` equal parts of a batch: `loss(part)` is the mean loss of part 0 ... parts - 1. The
/// gradients are those of the mean over the whole batch. The learning rate is the one set in `optimizer`.
///
/// With `skip_above`, a 0-d float32 tensor on the device, weights and optimizer stay as they are unless grad_norm <=
/// skip_above, so a norm of NaN or infinity skips. `scale`, which needs skip_above, multiplies the loss before the
/// backward pass, divides the gradients after it, and is updated. Throws std::logic_error for a scale without
/// skip_above.
StepResult train_step(const std::function<torch::Tensor(int64_t)>& loss, int64_t parts, Optimizer& optimizer,
                      double clip_grad_norm, const torch::Tensor& skip_above = {}, LossScale* scale = nullptr);

}  // namespace vrwkv::train
