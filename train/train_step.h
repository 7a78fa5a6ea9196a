#pragma once

#include <torch/types.h>

#include <functional>
#include <vector>

#include "train/adamw.h"

namespace vrwkv::train {

/// Both are 0-d tensors on the device, so that a step does not wait for them.
struct StepResult {
  torch::Tensor loss;       ///< Mean over the whole batch, before the update.
  torch::Tensor grad_norm;  ///< Global 2-norm before clipping.
};

/// One optimizer step over `parts` equal parts of a batch: `loss(part)` is the mean loss of part 0 ... parts - 1. The
/// gradients are those of the mean over the whole batch. The learning rate is the one set in `optimizer`.
StepResult train_step(const std::function<torch::Tensor(int64_t)>& loss, int64_t parts, AdamW& optimizer,
                      double clip_grad_norm);

}  // namespace vrwkv::train
