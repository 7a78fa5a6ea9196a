#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace vrwkv::ops {

/// What was made of weights and is kept by them.
class KeptWeights {
 public:
  /// Undefined if nothing is kept of `weights`, in this order, or if one has changed since.
  at::Tensor find(at::TensorList weights) const;

  /// Tensors of the inference mode, which have no version, are not kept.
  void keep(at::TensorList weights, const at::Tensor& result);

 private:
  struct Source {
    at::Tensor weight;  ///< Held, so that no other tensor takes its place in memory.
    int64_t version;    ///< Of the weight's values: in-place changes count it up,
    const void* data;   ///< and others, such as moving a module, bring other memory.

    bool is(const at::Tensor& other) const;
  };
  struct Entry {
    std::vector<Source> sources;
    at::Tensor result;
  };
  std::unordered_map<const c10::TensorImpl*, Entry> entries_;  ///< By the first weight.
};

/// What the scopes of ops/weight_casts.h keep in this thread. Each has its own, like autocast's state: autograd's
/// threads, which run checkpointed layers again, open scopes too.
struct WeightsOfThread {
  int scopes = 0;
  KeptWeights casts;
  KeptWeights quotients;  ///< By `divisor`.
  double divisor = 0;
  std::unordered_map<std::string_view, KeptWeights> packed;  ///< By the packer of their PackOrder.
};

WeightsOfThread& weights_of_thread();

}  // namespace vrwkv::ops
