#include "distributed/gradient_sync.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>

#include <algorithm>
#include <sstream>
#include <stdexcept>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <torch/csrc/distributed/c10d/reducer.hpp>
#include <utility>

namespace vrwkv::distributed {
namespace {

constexpr int64_t kFirstBucketBytes = 1 << 20;

int64_t bucket_bytes(const Options& options, const World& world) {
  const int64_t automatic = world.local_size() == world.size() ? 100 : 25;
  return (options.bucket_mb == 0 ? automatic : options.bucket_mb) << 20;
}

/// Indices of `parameters`, from the last one on: gradients come in the order of the backward pass.
std::vector<std::vector<size_t>> deal(const std::vector<at::Tensor>& parameters, int64_t bytes) {
  const std::vector<at::Tensor> backwards(parameters.rbegin(), parameters.rend());
  const auto size = static_cast<size_t>(bytes);
  auto dealt = std::get<0>(
      c10d::compute_bucket_assignment_by_size(backwards, {std::min<size_t>(size, kFirstBucketBytes), size}));
  for (auto& bucket : dealt) {
    for (size_t& index : bucket) index = parameters.size() - 1 - index;
  }
  return dealt;
}

}  // namespace

/// Called by autograd after a parameter's gradient has been stored or added to.
class GradientSync::Hook : public torch::autograd::PostAccumulateGradHook {
 public:
  Hook(GradientSync& sync, size_t parameter) : sync_(sync), parameter_(parameter) {}
  void operator()(const at::Tensor& /*parameter*/) override { sync_.gradient_came(parameter_); }

 private:
  GradientSync& sync_;
  size_t parameter_;
};

GradientSync::GradientSync(std::vector<at::Tensor> parameters, World& world, const Options& options)
    : parameters_(std::move(parameters)),
      group_(world.device_group(parameters_.at(0).device())),
      rounds_(options.gradients == GradientDtype::bfloat16),
      averages_(parameters_.at(0).is_cuda()),
      bucket_of_(parameters_.size()),
      came_(parameters_.size()) {
  for (auto& members : deal(parameters_, bucket_bytes(options, world))) {
    for (const size_t member : members) bucket_of_.at(member) = buckets_.size();
    buckets_.push_back(make_bucket(std::move(members)));
  }
  for (size_t i = 0; i < parameters_.size(); ++i) {
    torch::autograd::impl::set_post_acc_grad_hooks(parameters_[i], std::make_unique<Hook>(*this, i));
  }
}

GradientSync::Bucket GradientSync::make_bucket(std::vector<size_t> members) const {
  // Each starts where wide accesses may.
  constexpr int64_t kAlignment = 16;
  const auto room = [&](size_t member) {
    return (parameters_[member].numel() + kAlignment - 1) / kAlignment * kAlignment;
  };
  int64_t numel = 0;
  for (const size_t member : members) numel += room(member);
  Bucket bucket;
  const at::TensorOptions own = parameters_[members.front()].options();
  bucket.flat = at::zeros({numel}, rounds_ ? own.dtype(at::kBFloat16) : own);
  int64_t offset = 0;
  for (const size_t member : members) {
    const at::Tensor& parameter = parameters_[member];
    // A gradient has its parameter's strides.
    bucket.parts.push_back(bucket.flat.as_strided(parameter.sizes(), parameter.strides(), offset));
    offset += room(member);
  }
  bucket.members = std::move(members);
  return bucket;
}

GradientSync::~GradientSync() {
  for (const at::Tensor& parameter : parameters_) torch::autograd::impl::set_post_acc_grad_hooks(parameter, nullptr);
}

void GradientSync::prepare_backward() {
  for (Bucket& bucket : buckets_) bucket.missing = bucket.members.size();
  came_.assign(came_.size(), false);
  reduced_ = 0;
  armed_ = true;
}

void GradientSync::gradient_came(size_t parameter) {
  if (!armed_) return;
  if (came_[parameter]) {
    throw std::logic_error("GradientSync: parameter " + std::to_string(parameter) +
                           " got two gradients in one backward pass; the first may have been averaged already");
  }
  came_[parameter] = true;
  --buckets_[bucket_of_[parameter]].missing;
  for (; reduced_ < buckets_.size() && buckets_[reduced_].missing == 0; ++reduced_) reduce(buckets_[reduced_]);
}

std::vector<at::Tensor> GradientSync::gradients(const Bucket& bucket) const {
  std::vector<at::Tensor> found;
  for (const size_t member : bucket.members) found.push_back(parameters_[member].grad());
  return found;
}

void GradientSync::reduce(Bucket& bucket) {
  const at::NoGradGuard no_grad;
  at::_foreach_copy_(bucket.parts, gradients(bucket));
  if (!rounds_) {
    for (size_t i = 0; i < bucket.members.size(); ++i) {
      parameters_[bucket.members[i]].mutable_grad() = bucket.parts[i];
    }
  }
  std::vector<at::Tensor> travelling{bucket.flat};
  c10d::AllreduceOptions options;
  options.reduceOp = averages_ ? c10d::ReduceOp::AVG : c10d::ReduceOp::SUM;
  // Before the sum, which so stays in range.
  if (!averages_) bucket.flat.div_(static_cast<double>(group_->getSize()));
  bucket.work = group_->allreduce(travelling, options);
}

void GradientSync::finish_backward() {
  const at::NoGradGuard no_grad;
  armed_ = false;
  const auto absent = std::ranges::find(came_, false);
  if (absent != came_.end()) {
    const auto parameter = static_cast<size_t>(absent - came_.begin());
    std::ostringstream text;
    text << "GradientSync: parameter " << parameter << ' ' << parameters_[parameter].sizes()
         << " got no gradient in this backward pass; every one must";
    throw std::logic_error(text.str());
  }
  for (Bucket& bucket : buckets_) {
    bucket.work->wait();
    bucket.work.reset();
    if (rounds_) at::_foreach_copy_(gradients(bucket), bucket.parts);
  }
}

}  // namespace vrwkv::distributed
