#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "distributed/world.h"

namespace vrwkv::eval {

/// Exact counts of one class, or of all.
struct AccuracyCounts {
  int64_t images = 0;
  int64_t correct1 = 0;  ///< The label has the highest logit.
  int64_t correct5 = 0;  ///< The label is among the five highest.

  double top1() const;  ///< Percent; 0 without images.
  double top5() const;

  bool operator==(const AccuracyCounts&) const = default;
};

/// What an evaluation found.
struct Accuracy : AccuracyCounts {
  double loss = 0;                      ///< Mean cross-entropy, computed in float64; 0 without images.
  std::vector<AccuracyCounts> classes;  ///< By label, or by group.
};

/// Counts on the logits' device, without waiting for it: result() is the only synchronisation.
///
/// Among equal logits the lower class ranks first, as argmax does. An image with a NaN among its logits counts as wrong
/// (and makes the mean loss NaN). With fewer than five classes, the top five are all of them.
class AccuracyMeter {
 public:
  /// `groups`: what images are counted by, the classes (0) or something else, such as the classes of a data set whose
  /// images show several of the model's. Throws std::invalid_argument unless classes >= 1.
  AccuracyMeter(int64_t classes, at::Device device, int64_t groups = 0);

  /// logits: floating [B, classes]; labels: int64 [B], each 0 … classes - 1; B may be 0. Both on the meter's device.
  /// Throws std::invalid_argument that names the expected and the given shape.
  void update(const at::Tensor& logits, const at::Tensor& labels);

  /// The same where an image may have several right classes: right: bool [B, classes], at least one in each row;
  /// groups: int64 [B], each 0 … groups - 1. An image is correct when one of its classes ranks first, or among the
  /// five. Its loss is -log of the probability of all its classes together. A logit of -inf is a class that does not
  /// count.
  void update(const at::Tensor& logits, const at::Tensor& right, const at::Tensor& groups);

  /// Adds what another meter with the same number of classes counted, on whatever device.
  void merge(const AccuracyMeter& other);

  /// Adds up the counts of all processes, so that each has the whole.
  void add_up(distributed::World& world);

  Accuracy result() const;

 private:
  void check_logits(const at::Tensor& logits, const at::Tensor& labels) const;
  void count(const at::Tensor& values, const at::Tensor& best, const at::Tensor& groups, const at::Tensor& losses);

  int64_t classes_;
  at::Tensor counts_;    ///< int64 [3, groups]: images, correct1, correct5.
  at::Tensor loss_sum_;  ///< float64, 0-d.
};

}  // namespace vrwkv::eval
