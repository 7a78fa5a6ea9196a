#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace vrwkv::eval {

/// Exact counts of one evaluation.
struct Accuracy {
  int64_t images = 0, correct1 = 0, correct5 = 0;
  double loss = 0;                            ///< Mean cross-entropy.
  std::vector<int64_t> class_images, class_correct1, class_correct5;

  double top1() const { return share(correct1, images); }  ///< Percent; 0 without images.
  double top5() const { return share(correct5, images); }
  static double share(int64_t part, int64_t whole);
};

/// Counts top-1 and top-5 hits, per class too. Everything stays on the device until result() is called.
class AccuracyCounter {
 public:
  AccuracyCounter(int64_t num_classes, at::Device device);

  /// logits [B, num_classes] of any floating dtype, labels [B] int64 on the same device. Of equal logits the lower class
  /// ranks first; a row with a NaN counts as wrong.
  void add(const at::Tensor& logits, const at::Tensor& labels);

  Accuracy result() const;

 private:
  int64_t num_classes_;
  at::Tensor counts_;    ///< [num_classes, 3] int64: images, top-1 hits, top-5 hits.
  at::Tensor loss_sum_;  ///< 0-d float64.
};

}  // namespace vrwkv::eval
