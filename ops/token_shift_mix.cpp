#include "ops/token_shift_mix.h"

#include <ATen/Functions.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

#include "ops/token_shift_check.h"

namespace vrwkv::ops {
namespace {

/// What the CUDA kernels compute, from LibTorch's operations.
std::vector<at::Tensor> composite(const at::Tensor& x, at::TensorList mixes, const std::optional<at::Tensor>& weight,
                                  const std::optional<at::Tensor>& bias, int64_t height, int64_t width,
                                  std::optional<int64_t> group) {
  check_token_shift_mix(x, mixes, weight, bias, height, width, group);
  const auto [n, shifted] = shift_norm(x, weight, bias, height, width, group);
  std::vector<at::Tensor> outputs;
  for (const at::Tensor& mix : mixes) {
    const at::Tensor own = mix.to(n.scalar_type()).flatten();
    outputs.push_back(at::lerp(shifted, n, own).to(x.scalar_type()).contiguous());
  }
  return outputs;
}

}  // namespace

void check_token_shift_mix(const at::Tensor& x, at::TensorList mixes, const std::optional<at::Tensor>& weight,
                           const std::optional<at::Tensor>& bias, int64_t height, int64_t width,
                           std::optional<int64_t> group) {
  check_token_shift({"token_shift_mix", "mixes"}, x, mixes, weight, bias, height, width, group);
  TORCH_CHECK(!mixes.empty() && mixes.size() <= kMaxMixes, "token_shift_mix: mixes must be 1 to ", kMaxMixes,
              " tensors, got ", mixes.size());
}

std::vector<at::Tensor> token_shift_mix(const at::Tensor& x, at::TensorList mixes,
                                        const std::optional<at::Tensor>& weight, const std::optional<at::Tensor>& bias,
                                        int64_t height, int64_t width, std::optional<int64_t> group) {
  static const auto op =
      c10::Dispatcher::singleton()
          .findSchemaOrThrow("vrwkv::token_shift_mix", "")
          .typed<std::vector<at::Tensor>(const at::Tensor&, at::TensorList, const std::optional<at::Tensor>&,
                                         const std::optional<at::Tensor>&, int64_t, int64_t, std::optional<int64_t>)>();
  return op.call(x, mixes, weight, bias, height, width, group);
}

TORCH_LIBRARY_FRAGMENT(vrwkv, m) {
  m.def(
      "token_shift_mix(Tensor x, Tensor[] mixes, Tensor? weight, Tensor? bias, int height, int width, int? group=None) "
      "-> Tensor[]");
  // `sums` are the gradients of the mixes, weight and bias, [mixes + 2, C].
  m.def(
      "_token_shift_mix_backward(Tensor x, Tensor[] mixes, Tensor? weight, Tensor? bias, Tensor[] gradients, int "
      "height, int width, int? group=None) -> (Tensor gx, Tensor sums)");
}

TORCH_LIBRARY_IMPL(vrwkv, CompositeImplicitAutograd, m) { m.impl("token_shift_mix", composite); }

}  // namespace vrwkv::ops
