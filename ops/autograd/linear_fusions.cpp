// Under autograd, on CUDA: the kernels of token_shift_linear and channel_mix give no gradients, so where one
// is asked for, the compositions run, which differentiate themselves.

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

#include "ops/linear_composites.h"

namespace vrwkv::ops {
namespace {

template <auto composite>
const auto& registered(const char* name) {
  using Signature = std::remove_pointer_t<decltype(composite)>;
  static const auto op = c10::Dispatcher::singleton().findSchemaOrThrow(name, "").template typed<Signature>();
  return op;
}

std::vector<at::Tensor> token_shift_linear(const at::Tensor& x, at::TensorList mixes, at::TensorList weights,
                                           const std::optional<at::Tensor>& weight,
                                           const std::optional<at::Tensor>& bias, int64_t height, int64_t width) {
  if (needs_gradient({x, weight.value_or(at::Tensor()), bias.value_or(at::Tensor())}, mixes, weights)) {
    return token_shift_linear_composite(x, mixes, weights, weight, bias, height, width);
  }
  const at::AutoDispatchBelowADInplaceOrView below_autograd;
  return registered<token_shift_linear_composite>("vrwkv::token_shift_linear")
      .call(x, mixes, weights, weight, bias, height, width);
}

std::tuple<at::Tensor, at::Tensor> channel_mix(const at::Tensor& x, const at::Tensor& feed, const at::Tensor& mix_k,
                                               const at::Tensor& mix_r, const at::Tensor& key,
                                               const at::Tensor& receptance, const at::Tensor& value,
                                               const std::optional<at::Tensor>& norm_weight,
                                               const std::optional<at::Tensor>& norm_bias, int64_t height,
                                               int64_t width, int64_t next, double eps) {
  if (needs_gradient({x, feed, mix_k, mix_r, key, receptance, value, norm_weight.value_or(at::Tensor()),
                      norm_bias.value_or(at::Tensor())})) {
    return channel_mix_composite(x, feed, mix_k, mix_r, key, receptance, value, norm_weight, norm_bias, height, width,
                                 next, eps);
  }
  const at::AutoDispatchBelowADInplaceOrView below_autograd;
  return registered<channel_mix_composite>("vrwkv::channel_mix")
      .call(x, feed, mix_k, mix_r, key, receptance, value, norm_weight, norm_bias, height, width, next, eps);
}

}  // namespace

TORCH_LIBRARY_IMPL(vrwkv, AutogradCUDA, m) {
  m.impl("token_shift_linear", token_shift_linear);
  m.impl("channel_mix", channel_mix);
}

}  // namespace vrwkv::ops
