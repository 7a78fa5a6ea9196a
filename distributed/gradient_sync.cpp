#include "distributed/gradient_sync.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <torch/csrc/distributed/c10d/comm.hpp>
#include <torch/csrc/distributed/c10d/reducer.hpp>

namespace vrwkv::distributed {
namespace {

constexpr int64_t kFirstBucketBytes = 1 << 20;

/// A bucket travels as bfloat16; it is divided by the number of processes before, so that the sum stays in range.
class Bfloat16Hook : public c10d::CppCommHookInterface<c10::intrusive_ptr<c10d::ProcessGroup>> {
 public:
  using CppCommHookInterface::CppCommHookInterface;

  c10::intrusive_ptr<c10::ivalue::Future> runHook(c10d::GradBucket& bucket) override {
    const at::Tensor gradient = bucket.getBuffer();
    std::vector<at::Tensor> rounded{(gradient / state_->getSize()).to(at::kBFloat16)};
    const auto work = state_->allreduce(rounded);
    return work->getFuture()->then(
        [gradient](c10::ivalue::Future& reduced) {
          reduced.wait();
          const auto tensors = reduced.value().toTensorVector();
          gradient.copy_(tensors.at(0));
          return c10::IValue(gradient);
        },
        c10::TensorType::get());
  }
};

std::vector<std::vector<size_t>> buckets(const std::vector<at::Tensor>& parameters, int64_t bucket_bytes) {
  const auto size = static_cast<size_t>(bucket_bytes);
  auto found = std::get<0>(
      c10d::compute_bucket_assignment_by_size(parameters, {std::min<size_t>(size, kFirstBucketBytes), size}));
  // Gradients come in the order of the backward pass.
  std::ranges::reverse(found);
  return found;
}

}  // namespace

GradientSync::GradientSync(const std::vector<at::Tensor>& parameters, World& world, const Options& options) {
  const auto group = world.device_group(parameters.at(0).device());
  const int64_t bucket_bytes = options.bucket_mb << 20;
  reducer_ = std::make_unique<c10d::Reducer>(
      parameters, buckets(parameters, bucket_bytes), group, std::vector<bool>(parameters.size(), false), bucket_bytes,
      /*find_unused_parameters=*/false, /*gradient_as_bucket_view=*/true,
      /*param_names=*/std::unordered_map<size_t, std::string>{}, std::min(bucket_bytes, kFirstBucketBytes),
      /*skip_all_reduce_unused_params=*/false, /*use_python_reducer=*/false,
      /*bucket_bytes_cap_list=*/std::vector<int64_t>{});
  if (options.gradients == GradientDtype::bfloat16) {
    reducer_->register_comm_hook(std::make_unique<Bfloat16Hook>(group));
  }
}

GradientSync::~GradientSync() = default;

void GradientSync::prepare_forward() {
  reducer_->prepare_for_forward();
  reducer_->rebuild_buckets();
}

void GradientSync::prepare_backward() { reducer_->prepare_for_backward({}); }

}  // namespace vrwkv::distributed
