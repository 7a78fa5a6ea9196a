#pragma once

#include <torch/csrc/jit/api/module.h>

#include "vrwkv/vrwkv_classifier.h"

namespace vrwkv::deploy {

/// TorchScript's form of `model`, which must be in evaluation mode: a method forward(images) -> logits that holds what
/// the model computes for images like `example`, [B, in_channels, H, W]: any B, but these H and W, and the precision in
/// force at the time of the call (autocast). Parameters keep their published names; the tensors are shared with
/// `model`, whose parameters no longer require grad.
torch::jit::Module trace(VrwkvClassifier model, const torch::Tensor& example);

}  // namespace vrwkv::deploy
