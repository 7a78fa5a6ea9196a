#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/intrusive_ptr.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "distributed/options.h"
#include "distributed/world.h"

namespace c10d {
class Work;
}

namespace vrwkv::distributed {

/// Averages the gradients of all processes during the backward pass. Parameters are dealt to buckets, the last ones
/// first, as their gradients come; a bucket whose gradients are all there is copied together by one kernel and reduced
/// by c10d's group while the backward pass goes on.
///
/// c10d's Reducer copies every gradient by a kernel of its own, and reducing them where they lie pays for each what
/// a reduction costs at least (docs/distributed.md has all three measured).
class GradientSync {
 public:
  /// `parameters`: those that require grad, in the same order everywhere, best in the order of the forward pass. The
  /// first bucket is of 1 MiB at most, so that the reduction starts early.
  GradientSync(std::vector<at::Tensor> parameters, World& world, const Options& options);
  ~GradientSync();
  GradientSync(const GradientSync&) = delete;
  GradientSync& operator=(const GradientSync&) = delete;

  /// Before the backward pass of a step's last part, which averages what all parts have added up to. Backward passes
  /// without it add to the gradients of this process alone.
  void prepare_backward();

  /// After that backward pass: the device goes on with averaged gradients, which lie in memory of this object until
  /// the next one. Throws std::logic_error if a parameter got none.
  void finish_backward();

 private:
  class Hook;
  struct Bucket {
    std::vector<size_t> members;    ///< Indices of parameters_.
    size_t missing = 0;             ///< Gradients of this backward pass that have not come yet.
    at::Tensor flat;                ///< What travels: all gradients.
    std::vector<at::Tensor> parts;  ///< Of `flat`, by member.
    c10::intrusive_ptr<c10d::Work> work;
  };

  void gradient_came(size_t parameter);
  Bucket make_bucket(std::vector<size_t> members) const;
  std::vector<at::Tensor> gradients(const Bucket& bucket) const;
  void reduce(Bucket& bucket);

  std::vector<at::Tensor> parameters_;
  c10::intrusive_ptr<c10d::ProcessGroup> group_;
  bool rounds_;    ///< Whether gradients travel as bfloat16.
  bool averages_;  ///< Whether the group divides, too: NCCL does, Gloo only adds up.
  std::vector<Bucket> buckets_;
  std::vector<size_t> bucket_of_;  ///< By parameter.
  std::vector<bool> came_;         ///< By parameter.
  size_t reduced_ = 0;             ///< Buckets whose reduction has begun: all processes must begin them in one order.
  bool armed_ = false;
};

}  // namespace vrwkv::distributed
