#include "ops/weight_casts.h"

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>
#include <torch/library.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "ops/kept_weights.h"
#include "ops/registered_operator.h"

namespace vrwkv::ops {
namespace {

/// Writes `sources` over `results` of another dtype, the same devices and shapes.
void cast_tensors(at::TensorList results, at::TensorList sources) {
  registered_operator<cast_tensors>("vrwkv::_cast_tensors_").call(results, sources);
}

void copy_tensors(at::TensorList results, at::TensorList sources) { at::_foreach_copy_(results, sources); }

}  // namespace

bool KeptWeights::Source::is(const at::Tensor& other) const {
  return weight.is_same(other) && version == other._version() && data == other.const_data_ptr();
}

at::Tensor KeptWeights::find(at::TensorList weights) const {
  const auto found = entries_.find(weights.front().unsafeGetTensorImpl());
  if (found == entries_.end()) return {};
  const Entry& entry = found->second;
  const bool is_current = std::equal(entry.sources.begin(), entry.sources.end(), weights.begin(), weights.end(),
                                     [](const Source& source, const at::Tensor& weight) { return source.is(weight); });
  return is_current ? entry.result : at::Tensor();
}

void KeptWeights::keep(at::TensorList weights, const at::Tensor& result) {
  std::vector<Source> sources;
  for (const at::Tensor& weight : weights) {
    if (weight.is_inference()) return;
    sources.push_back({weight, weight._version(), weight.const_data_ptr()});
  }
  entries_.insert_or_assign(weights.front().unsafeGetTensorImpl(), Entry{std::move(sources), result});
}

WeightsOfThread& weights_of_thread() {
  thread_local WeightsOfThread of_this_thread;
  return of_this_thread;
}

WeightCastScope::WeightCastScope() { ++weights_of_thread().scopes; }

WeightCastScope::~WeightCastScope() {
  if (--weights_of_thread().scopes == 0) weights_of_thread() = {};
}

void cast_weights(at::TensorList weights, at::ScalarType dtype) {
  if (weights_of_thread().scopes == 0) return;
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> sources, results;
  for (const at::Tensor& weight : weights) {
    // Tensors of the inference mode cannot be kept.
    if (weight.scalar_type() == dtype || weight.is_inference() || kept_cast(weight, dtype).defined()) continue;
    sources.push_back(weight);
    results.push_back(at::empty_like(weight, weight.options().dtype(dtype)));
  }
  if (sources.empty()) return;
  cast_tensors(results, sources);
  for (size_t i = 0; i < sources.size(); ++i) weights_of_thread().casts.keep(sources[i], results[i]);
}

at::Tensor kept_cast(const at::Tensor& weight, at::ScalarType dtype) {
  const at::Tensor kept = weights_of_thread().casts.find(weight);
  return kept.defined() && kept.scalar_type() == dtype ? kept : at::Tensor();
}

at::Tensor cast_weight(const at::Tensor& weight, at::ScalarType dtype) {
  cast_weights(weight, dtype);
  const at::Tensor kept = kept_cast(weight, dtype);
  return kept.defined() ? kept : weight.detach().to(dtype);
}

TORCH_LIBRARY_FRAGMENT(vrwkv, m) { m.def("_cast_tensors_(Tensor(a!)[] results, Tensor[] sources) -> ()"); }

// On CUDA one kernel of our own casts them all: LibTorch's cuts them into pieces of 65,536 numbers.
TORCH_LIBRARY_IMPL(vrwkv, CompositeExplicitAutograd, m) { m.impl("_cast_tensors_", copy_tensors); }

}  // namespace vrwkv::ops
