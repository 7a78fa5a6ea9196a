#include "eval/metrics/accuracy.h"

#include <ATen/ATen.h>
#include <c10/util/StringUtil.h>

#include <limits>
#include <stdexcept>

namespace vrwkv::eval {
namespace {

constexpr int64_t kTop = 5;

double percent(int64_t part, int64_t whole) {
  return whole == 0 ? 0.0 : 100.0 * static_cast<double>(part) / static_cast<double>(whole);
}

/// Position of each label's class in the order of its row, int64 [B].
at::Tensor label_ranks(const at::Tensor& logits, const at::Tensor& labels) {
  const at::Tensor column = labels.unsqueeze(1);
  const at::Tensor own = logits.gather(1, column);
  const at::Tensor index = at::arange(logits.size(1), labels.options()).unsqueeze(0);
  const at::Tensor before = logits.gt(own).logical_or_(logits.eq(own).logical_and_(index.lt(column)));
  return before.sum(1);
}

}  // namespace

double AccuracyCounts::top1() const { return percent(correct1, images); }
double AccuracyCounts::top5() const { return percent(correct5, images); }

AccuracyMeter::AccuracyMeter(int64_t classes, at::Device device, int64_t groups) : classes_(classes) {
  if (classes < 1) throw std::invalid_argument(c10::str("AccuracyMeter: classes must be at least 1, got ", classes));
  counts_ = at::zeros({3, groups > 0 ? groups : classes}, at::TensorOptions().dtype(at::kLong).device(device));
  loss_sum_ = at::zeros({}, at::TensorOptions().dtype(at::kDouble).device(device));
}

void AccuracyMeter::check_logits(const at::Tensor& logits, const at::Tensor& labels) const {
  if (logits.dim() == 2 && logits.size(1) == classes_ && logits.is_floating_point() && labels.dim() == 1 &&
      labels.size(0) == logits.size(0) && labels.scalar_type() == at::kLong) {
    return;
  }
  throw std::invalid_argument(c10::str("AccuracyMeter: expected floating logits [B, ", classes_,
                                       "] and int64 labels [B], got ", logits.scalar_type(), " ", logits.sizes(),
                                       " and ", labels.scalar_type(), " ", labels.sizes()));
}

/// `best`: the right class with the highest logit.
void AccuracyMeter::count(const at::Tensor& values, const at::Tensor& best, const at::Tensor& groups,
                          const at::Tensor& losses) {
  const at::Tensor rank = label_ranks(values, best);
  const at::Tensor valid = values.isnan().any(1).logical_not_();
  const at::Tensor correct1 = rank.lt(1).logical_and_(valid);
  const at::Tensor correct5 = rank.lt(kTop).logical_and_(valid);
  counts_.index_add_(1, groups, at::stack({at::ones_like(groups), correct1.to(at::kLong), correct5.to(at::kLong)}));
  loss_sum_.add_(losses.sum());
}

void AccuracyMeter::update(const at::Tensor& logits, const at::Tensor& labels) {
  check_logits(logits, labels);
  if (logits.size(0) == 0) return;
  const at::NoGradGuard no_grad;
  const at::Tensor values = logits.to(at::kDouble);
  count(values, labels, labels, at::cross_entropy_loss(values, labels, {}, at::Reduction::None));
}

void AccuracyMeter::update(const at::Tensor& logits, const at::Tensor& right, const at::Tensor& groups) {
  check_logits(logits, groups);
  if (right.sizes() != logits.sizes() || right.scalar_type() != at::kBool) {
    throw std::invalid_argument(c10::str("AccuracyMeter: expected right classes bool ", logits.sizes(), ", got ",
                                         right.scalar_type(), " ", right.sizes()));
  }
  if (logits.size(0) == 0) return;
  const at::NoGradGuard no_grad;
  const at::Tensor values = logits.to(at::kDouble);
  const at::Tensor of_right = values.masked_fill(right.logical_not(), -std::numeric_limits<double>::infinity());
  count(values, of_right.argmax(1), groups, values.logsumexp(1) - of_right.logsumexp(1));
}

void AccuracyMeter::merge(const AccuracyMeter& other) {
  if (other.classes_ != classes_ || other.counts_.sizes() != counts_.sizes()) {
    throw std::invalid_argument(
        c10::str("AccuracyMeter: cannot merge counts of ", other.classes_, " classes into those of ", classes_));
  }
  const at::NoGradGuard no_grad;
  counts_.add_(other.counts_.to(counts_.device()));
  loss_sum_.add_(other.loss_sum_.to(loss_sum_.device()));
}

void AccuracyMeter::add_up(distributed::World& world) {
  if (world.size() == 1) return;
  for (at::Tensor* values : {&counts_, &loss_sum_}) {
    at::Tensor host = values->cpu();
    world.sum(host);
    values->copy_(host);
  }
}

Accuracy AccuracyMeter::result() const {
  const at::Tensor counts = counts_.cpu();
  const auto value = counts.accessor<int64_t, 2>();
  Accuracy accuracy;
  accuracy.classes.reserve(static_cast<std::size_t>(counts.size(1)));
  for (int64_t c = 0; c < counts.size(1); ++c) {
    const AccuracyCounts& of_class = accuracy.classes.emplace_back(value[0][c], value[1][c], value[2][c]);
    accuracy.images += of_class.images;
    accuracy.correct1 += of_class.correct1;
    accuracy.correct5 += of_class.correct5;
  }
  if (accuracy.images > 0) accuracy.loss = loss_sum_.item<double>() / static_cast<double>(accuracy.images);
  return accuracy;
}

}  // namespace vrwkv::eval
