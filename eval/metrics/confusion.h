#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "distributed/world.h"

namespace vrwkv::eval {

/// How often images of each group (a class of the data) were taken for each class of the model. Counts on the logits'
/// device, without waiting for it.
class ConfusionMatrix {
 public:
  ConfusionMatrix(int64_t groups, int64_t classes, at::Device device);

  /// logits: floating [B, classes]; groups: int64 [B]. An image with a NaN among its logits is not counted.
  void update(const at::Tensor& logits, const at::Tensor& groups);

  /// Adds up the counts of all processes, so that each has the whole.
  void add_up(distributed::World& world);

  at::Tensor counts() const { return counts_.cpu(); }  ///< int64 [groups, classes]: row: what it is; column: taken for.

 private:
  at::Tensor counts_;
};

/// The matrix as CSV (RFC 4180): a header of class names, a line for each group that begins with its name.
std::string confusion_csv(const at::Tensor& counts, const std::vector<std::string>& groups,
                          const std::vector<std::string>& classes);

/// A gnuplot script that prints the matrix as a picture: each row's shares from 0 to 1, with names up to 40 of them.
std::string confusion_script(const at::Tensor& counts, const std::vector<std::string>& groups,
                             const std::vector<std::string>& classes);

}  // namespace vrwkv::eval
