#include "train/classification_loss.h"

#include <torch/nn/functional/loss.h>

namespace vrwkv::train {
namespace {

torch::Tensor smoothed(const torch::Tensor& targets, const torch::Tensor& like, double label_smoothing) {
  const int64_t classes = like.size(1);
  const torch::Tensor shares = targets.dim() == 2 ? targets.to(like.scalar_type())
                                                  : torch::zeros_like(like).scatter_(1, targets.unsqueeze(1), 1.0);
  return shares * (1.0 - label_smoothing) + label_smoothing / static_cast<double>(classes);
}

torch::Tensor binary_cross_entropy(const torch::Tensor& logits, const torch::Tensor& targets,
                                   const config::LossOptions& options, double label_smoothing) {
  torch::Tensor shares = smoothed(targets, logits.detach(), label_smoothing);
  if (options.bce_threshold) shares = shares.gt(*options.bce_threshold).to(shares.scalar_type());
  const torch::Tensor mean = torch::binary_cross_entropy_with_logits(logits, shares);
  return options.bce_sum ? mean * static_cast<double>(logits.size(1)) : mean;
}

}  // namespace

torch::Tensor classification_loss(const torch::Tensor& logits, const torch::Tensor& targets,
                                  const config::LossOptions& options, double label_smoothing) {
  const bool labels = targets.dim() == 1 && targets.scalar_type() == torch::kLong && targets.size(0) == logits.size(0);
  TORCH_CHECK(labels || (targets.is_floating_point() && targets.sizes() == logits.sizes()),
              "classification_loss: targets must be int64 [", logits.size(0), "] or floating point ", logits.sizes(),
              ", got ", targets.scalar_type(), " ", targets.sizes());
  const torch::Tensor wide = logits.scalar_type() == torch::kDouble ? logits : logits.to(torch::kFloat);
  if (options.name == config::LossName::bce) return binary_cross_entropy(wide, targets, options, label_smoothing);
  namespace F = torch::nn::functional;
  const torch::Tensor matching = labels ? targets : targets.to(wide.scalar_type());
  return F::cross_entropy(wide, matching, F::CrossEntropyFuncOptions().label_smoothing(label_smoothing));
}

}  // namespace vrwkv::train
