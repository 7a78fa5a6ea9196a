#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "distributed/options.h"
#include "distributed/world.h"

namespace c10d {
class Reducer;
}

namespace vrwkv::distributed {

/// Averages the gradients of all processes during the backward pass, by c10d's Reducer: parameters fill buckets in the
/// order in which their gradients come, and a full bucket is reduced while the backward pass goes on.
class GradientSync {
 public:
  /// `parameters`: those that require grad, in the same order everywhere; each must get a gradient in every backward
  /// pass. The first bucket is of 1 MiB at most, so that the reduction starts early.
  GradientSync(const std::vector<at::Tensor>& parameters, World& world, const Options& options);
  ~GradientSync();
  GradientSync(const GradientSync&) = delete;
  GradientSync& operator=(const GradientSync&) = delete;

  /// Before the forward pass of a step's last part: its backward pass averages what all parts have added up to.
  /// Backward passes without it add to the gradients of this process alone.
  void prepare_forward();

  /// After that forward pass.
  void prepare_backward();

 private:
  std::unique_ptr<c10d::Reducer> reducer_;
};

}  // namespace vrwkv::distributed
