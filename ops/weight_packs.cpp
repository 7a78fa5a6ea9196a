#include "ops/weight_packs.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/grad_mode.h>
#include <torch/library.h>

#include <algorithm>
#include <vector>

#include "ops/kept_weights.h"

namespace vrwkv::ops {
namespace {

std::vector<at::Tensor> pack(const PackOrder& order, at::TensorList weights) {
  const at::NoGradGuard no_grad;
  const auto packer = c10::Dispatcher::singleton().findSchemaOrThrow(order.packer, "");
  return packer.typed<std::vector<at::Tensor>(at::TensorList)>().call(weights);
}

}  // namespace

void pack_weights(const PackOrder& order, at::TensorList weights) {
  if (weights_of_thread().scopes == 0) return;
  KeptWeights& kept = weights_of_thread().packed[order.packer];
  std::vector<at::Tensor> missing;
  for (size_t i = 0; i + order.weights <= weights.size(); i += order.weights) {
    const at::TensorList layer = weights.slice(i, order.weights);
    // Tensors of the inference mode cannot be kept.
    const bool keeps = std::ranges::none_of(layer, [](const at::Tensor& weight) { return weight.is_inference(); });
    if (keeps && !kept.find(layer).defined()) missing.insert(missing.end(), layer.begin(), layer.end());
  }
  if (missing.empty()) return;
  const std::vector<at::Tensor> packed = pack(order, missing);
  for (size_t i = 0; i < packed.size(); ++i) {
    kept.keep(at::TensorList(missing).slice(i * order.weights, order.weights), packed[i]);
  }
}

at::Tensor kept_pack(const PackOrder& order, at::TensorList weights) {
  const auto& packed = weights_of_thread().packed;
  const auto kept = packed.find(order.packer);
  return kept == packed.end() ? at::Tensor() : kept->second.find(weights);
}

at::Tensor packed_weights(const PackOrder& order, at::TensorList weights) {
  const at::Tensor kept = kept_pack(order, weights);
  if (kept.defined()) return kept;
  const std::vector<at::Tensor> packed = pack(order, weights);
  TORCH_CHECK(packed.size() == 1, order.packer, ": there is no kernel for weights of shape ", weights[0].sizes());
  if (weights_of_thread().scopes > 0) weights_of_thread().packed[order.packer].keep(weights, packed[0]);
  return packed[0];
}

TORCH_LIBRARY_FRAGMENT(vrwkv, m) {
  // For the kernels of CUDA, which have their orders: one tensor of bytes a layer.
  m.def("_pack_patch_embed(Tensor[] weights) -> Tensor[]");
  m.def("_pack_token_shift_linear_gradient(Tensor[] weights) -> Tensor[]");
  m.def("_pack_channel_mix(Tensor[] weights) -> Tensor[]");
  m.def("_pack_linear_residual_channel_mix(Tensor[] weights) -> Tensor[]");
  m.def("_pack_hidden(Tensor[] weights) -> Tensor[]");
  m.def("_pack_hidden_gradient(Tensor[] weights) -> Tensor[]");
}

}  // namespace vrwkv::ops
