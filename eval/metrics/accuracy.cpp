#include "eval/metrics/accuracy.h"

#include <ATen/ATen.h>

namespace vrwkv::eval {

double Accuracy::share(int64_t part, int64_t whole) {
  return whole > 0 ? 100.0 * static_cast<double>(part) / static_cast<double>(whole) : 0.0;
}

AccuracyCounter::AccuracyCounter(int64_t num_classes, at::Device device)
    : num_classes_(num_classes),
      counts_(at::zeros({num_classes, 3}, at::TensorOptions(at::kLong).device(device))),
      loss_sum_(at::zeros({}, at::TensorOptions(at::kDouble).device(device))) {}

void AccuracyCounter::add(const at::Tensor& logits_in, const at::Tensor& labels) {
  TORCH_CHECK(logits_in.dim() == 2 && logits_in.size(1) == num_classes_, "accuracy: logits must be [B, ", num_classes_,
              "], got ", logits_in.sizes());
  TORCH_CHECK(labels.dim() == 1 && labels.size(0) == logits_in.size(0), "accuracy: labels must be [", logits_in.size(0),
              "], got ", labels.sizes());
  const at::Tensor logits = logits_in.to(at::kDouble);
  const at::Tensor target = labels.unsqueeze(1);
  const at::Tensor own = logits.gather(1, target);
  const at::Tensor lower_class = at::arange(num_classes_, labels.options()).unsqueeze(0) < target;
  const at::Tensor ahead = (logits > own).logical_or((logits == own).logical_and(lower_class)).sum(1);
  const at::Tensor valid = logits.isnan().any(1).logical_not();
  const at::Tensor hits = at::stack({at::ones_like(labels), (ahead < 1).logical_and(valid).to(at::kLong),
                                     (ahead < 5).logical_and(valid).to(at::kLong)},
                                    1);
  counts_.index_add_(0, labels, hits);
  loss_sum_ += at::cross_entropy_loss(logits, labels, {}, at::Reduction::Sum);
}

Accuracy AccuracyCounter::result() const {
  Accuracy result;
  const at::Tensor counts = counts_.cpu();
  const auto rows = counts.accessor<int64_t, 2>();
  for (int64_t c = 0; c < num_classes_; ++c) {
    result.class_images.push_back(rows[c][0]);
    result.class_correct1.push_back(rows[c][1]);
    result.class_correct5.push_back(rows[c][2]);
    result.images += rows[c][0];
    result.correct1 += rows[c][1];
    result.correct5 += rows[c][2];
  }
  if (result.images > 0) result.loss = loss_sum_.item<double>() / static_cast<double>(result.images);
  return result;
}

}  // namespace vrwkv::eval
