#include "train/train_step.h"

#include <stdexcept>

namespace vrwkv::train {

StepResult train_step(const std::function<torch::Tensor(int64_t)>& loss, int64_t parts, Optimizer& optimizer,
                      double clip_grad_norm, const torch::Tensor& skip_above, LossScale* scale,
                      distributed::GradientSync* sync) {
  if (scale != nullptr && !skip_above.defined()) throw std::logic_error("train_step: a loss scale needs skip_above");
  StepResult result;
  optimizer.zero_grad();
  for (int64_t part = 0; part < parts; ++part) {
    const bool last = part == parts - 1;
    const torch::Tensor share = loss(part) / static_cast<double>(parts);
    if (sync != nullptr && last) sync->prepare_backward();
    (scale == nullptr ? share : share * scale->scale()).backward();
    if (sync != nullptr && last) sync->finish_backward();
    result.loss = result.loss.defined() ? result.loss + share.detach() : share.detach();
  }
  if (scale != nullptr) optimizer.scale_gradients(scale->scale().reciprocal());
  result.grad_norm = optimizer.clip_grad_norm(clip_grad_norm);
  if (skip_above.defined()) result.skipped = (result.grad_norm <= skip_above).logical_not().to(torch::kFloat);
  optimizer.step(result.skipped);
  if (scale != nullptr) scale->update(result.skipped);
  return result;
}

}  // namespace vrwkv::train
