#include "ops/weight_casts.h"

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>

#include <unordered_map>
#include <vector>

namespace vrwkv::ops {
namespace {

struct Cast {
  at::Tensor weight;  ///< Held, so that no other tensor takes its place in memory.
  int64_t version;    ///< Of the weight's values: in-place changes count it up,
  const void* data;   ///< and others, such as moving a module, bring other memory.
  at::Tensor result;
};

struct Casts {
  int scopes = 0;
  std::unordered_map<const c10::TensorImpl*, Cast> kept;
};

/// A thread's own, like autocast's state: autograd's threads, which run checkpointed layers again, open scopes too.
Casts& casts() {
  thread_local Casts of_this_thread;
  return of_this_thread;
}

}  // namespace

WeightCastScope::WeightCastScope() { ++casts().scopes; }

WeightCastScope::~WeightCastScope() {
  if (--casts().scopes == 0) casts().kept.clear();
}

void cast_weights(at::TensorList weights, at::ScalarType dtype) {
  if (casts().scopes == 0) return;
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> sources, results;
  for (const at::Tensor& weight : weights) {
    // Tensors of the inference mode have no version.
    if (weight.scalar_type() == dtype || weight.is_inference() || kept_cast(weight, dtype).defined()) continue;
    sources.push_back(weight);
    results.push_back(at::empty_like(weight, weight.options().dtype(dtype)));
  }
  if (sources.empty()) return;
  at::_foreach_copy_(results, sources);
  for (size_t i = 0; i < sources.size(); ++i) {
    const at::Tensor& weight = sources[i];
    casts().kept.insert_or_assign(weight.unsafeGetTensorImpl(),
                                  Cast{weight, weight._version(), weight.const_data_ptr(), results[i]});
  }
}

at::Tensor kept_cast(const at::Tensor& weight, at::ScalarType dtype) {
  const auto found = casts().kept.find(weight.unsafeGetTensorImpl());
  if (found == casts().kept.end()) return {};
  const Cast& cast = found->second;
  const bool is_current = cast.version == weight._version() && cast.data == weight.const_data_ptr();
  return is_current && cast.result.scalar_type() == dtype ? cast.result : at::Tensor();
}

at::Tensor cast_weight(const at::Tensor& weight, at::ScalarType dtype) {
  cast_weights(weight, dtype);
  const at::Tensor kept = kept_cast(weight, dtype);
  return kept.defined() ? kept : weight.detach().to(dtype);
}

}  // namespace vrwkv::ops
