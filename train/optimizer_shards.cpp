#include "train/optimizer_shards.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>

namespace vrwkv::train {
namespace {

constexpr const char* kStep = "step";

/// For each size the process it goes to.
std::vector<int64_t> deal(const std::vector<int64_t>& sizes, int64_t processes) {
  std::vector<size_t> order(sizes.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, [&](size_t a, size_t b) { return sizes[a] > sizes[b]; });
  std::vector<int64_t> load(static_cast<size_t>(processes)), owners(sizes.size());
  for (const size_t i : order) {
    const auto least = std::ranges::min_element(load);
    *least += sizes[i];
    owners[i] = least - load.begin();
  }
  return owners;
}

}  // namespace

OptimizerShards::OptimizerShards(std::vector<ParamGroup>& groups, std::shared_ptr<distributed::World> world)
    : world_(std::move(world)) {
  std::vector<NamedParameter*> parameters;
  std::vector<int64_t> sizes;
  for (auto& group : groups) {
    for (auto& parameter : group.parameters) {
      TORCH_CHECK(parameter.value.scalar_type() == groups.front().parameters.front().value.scalar_type(),
                  "OptimizerShards: parameters of one dtype only, ", parameter.name, " is of another");
      parameters.push_back(&parameter);
      sizes.push_back(parameter.value.numel());
    }
  }
  const std::vector<int64_t> owners = deal(sizes, world_->size());
  std::vector<int64_t> totals(static_cast<size_t>(world_->size()));
  for (size_t i = 0; i < parameters.size(); ++i) {
    parameters[i]->updated_here = owners[i] == world_->rank();
    parts_.push_back({*parameters[i], owners[i]});
    totals[static_cast<size_t>(owners[i])] += sizes[i];
  }
  shard_size_ = *std::ranges::max_element(totals);
}

void OptimizerShards::share_weights() const {
  const torch::NoGradGuard no_grad;
  const torch::TensorOptions like = parts_.front().parameter.value.options().requires_grad(false);
  torch::Tensor own = torch::empty({shard_size_}, like), all = torch::empty({world_->size() * shard_size_}, like);
  std::vector<int64_t> used(static_cast<size_t>(world_->size()));
  std::vector<torch::Tensor> own_values, own_places, values, places;
  for (const Part& part : parts_) {
    const torch::Tensor& value = part.parameter.value;
    int64_t& offset = used[static_cast<size_t>(part.owner)];
    const auto place = [&](const torch::Tensor& flat, int64_t start) {
      return flat.narrow(0, start + offset, value.numel()).view(value.sizes());
    };
    if (part.owner == world_->rank()) {
      own_values.push_back(value);
      own_places.push_back(place(own, 0));
    } else {
      values.push_back(value);
      places.push_back(place(all, part.owner * shard_size_));
    }
    offset += value.numel();
  }
  if (!own_values.empty()) at::_foreach_copy_(own_places, own_values);
  world_->device_group(own.device())->_allgather_base(all, own)->wait();
  if (!values.empty()) at::_foreach_copy_(values, places);
}

/// Calls visit(name of the sum, its parameter, its owner), in the same order everywhere.
template <typename F>
void OptimizerShards::for_each_sum(const Optimizer& optimizer, const F& visit) const {
  for (const Part& part : parts_) {
    for (const std::string& sum : optimizer.sums()) visit(sum + "." + part.parameter.name, part.parameter, part.owner);
  }
}

std::map<std::string, torch::Tensor> OptimizerShards::gather(const Optimizer& optimizer) const {
  std::map<std::string, torch::Tensor> all;
  const std::map<std::string, torch::Tensor> own = optimizer.state();
  for_each_sum(optimizer, [&](const std::string& name, const NamedParameter& parameter, int64_t owner) {
    torch::Tensor sum = owner == world_->rank() ? own.at(name) : torch::empty_like(parameter.value);
    world_->broadcast({sum}, owner);
    if (world_->is_main()) all.emplace(name, sum.detach().cpu());
  });
  if (world_->is_main()) all.emplace(kStep, own.at(kStep));
  return all;
}

void OptimizerShards::scatter(const std::map<std::string, torch::Tensor>& state, Optimizer& optimizer) const {
  const torch::NoGradGuard no_grad;
  torch::Tensor given = torch::full({1}, state.empty() ? 0 : 1, torch::kLong);
  world_->broadcast({given});
  if (given.item<int64_t>() == 0) return;
  std::map<std::string, torch::Tensor> own = optimizer.state();
  for_each_sum(optimizer, [&](const std::string& name, const NamedParameter& parameter, int64_t owner) {
    torch::Tensor sum = torch::empty_like(parameter.value);
    if (world_->is_main()) sum.copy_(state.at(name));
    world_->broadcast({sum});
    if (owner == world_->rank()) own.at(name).copy_(sum);
  });
  if (world_->is_main()) own.at(kStep).copy_(state.at(kStep));
  world_->broadcast({own.at(kStep)});
}

}  // namespace vrwkv::train
