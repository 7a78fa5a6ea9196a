#include "train/train_step.h"

namespace vrwkv::train {

StepResult train_step(const std::function<torch::Tensor(int64_t)>& loss, int64_t parts, AdamW& optimizer,
                      double clip_grad_norm) {
  StepResult result;
  optimizer.zero_grad();
  for (int64_t part = 0; part < parts; ++part) {
    const torch::Tensor share = loss(part) / static_cast<double>(parts);
    share.backward();
    result.loss = result.loss.defined() ? result.loss + share.detach() : share.detach();
  }
  result.grad_norm = optimizer.clip_grad_norm(clip_grad_norm);
  optimizer.step();
  return result;
}

}  // namespace vrwkv::train
