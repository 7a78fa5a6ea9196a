#include "ops/token_shift_mix.h"

#include <ATen/Functions.h>
#include <ATen/OpMathType.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/library.h>

#include "ops/q_shift.h"
#include "ops/q_shift_geometry.h"
#include "ops/token_shift_mix_check.h"

namespace vrwkv::ops {
namespace {

void check_parameter(const std::string& name, const at::Tensor& tensor, const at::Tensor& x) {
  const int64_t channels = x.size(2);
  const auto sums = at::toOpMathType(x.scalar_type());
  TORCH_CHECK(tensor.numel() == channels && (tensor.dim() == 1 || tensor.dim() == 3), "token_shift_mix: ", name,
              " must be [C] or [1, 1, C] with C = ", channels, ", got ", tensor.sizes());
  TORCH_CHECK(tensor.scalar_type() == sums || tensor.scalar_type() == x.scalar_type(), "token_shift_mix: ", name,
              " must be ", sums, " or have the dtype of x, ", x.scalar_type(), ", got ", tensor.scalar_type());
  TORCH_CHECK(tensor.device() == x.device(), "token_shift_mix: ", name, " must be on the device of x, ", x.device(),
              ", got ", tensor.device());
}

/// What the CUDA kernels compute, from LibTorch's operations.
std::vector<at::Tensor> composite(const at::Tensor& x, at::TensorList mixes, const std::optional<at::Tensor>& weight,
                                  const std::optional<at::Tensor>& bias, int64_t height, int64_t width) {
  check_token_shift_mix(x, mixes, weight, bias, height, width);
  const auto sums = at::toOpMathType(x.scalar_type());
  const at::Tensor wide = x.to(sums);
  const at::Tensor n = weight ? wide * weight->to(sums) + bias->to(sums) : wide;
  const at::Tensor shifted = q_shift(n, height, width);
  std::vector<at::Tensor> outputs;
  for (const at::Tensor& mix : mixes) {
    outputs.push_back(at::lerp(shifted, n, mix.to(sums).flatten()).to(x.scalar_type()).contiguous());
  }
  return outputs;
}

}  // namespace

void check_token_shift_mix(const at::Tensor& x, at::TensorList mixes, const std::optional<at::Tensor>& weight,
                           const std::optional<at::Tensor>& bias, int64_t height, int64_t width) {
  check_q_shift(x, height, width, 1);
  TORCH_CHECK(!mixes.empty() && mixes.size() <= kMaxMixes, "token_shift_mix: mixes must be 1 to ", kMaxMixes,
              " tensors, got ", mixes.size());
  for (size_t i = 0; i < mixes.size(); ++i) check_parameter("mixes[" + std::to_string(i) + "]", mixes[i], x);
  TORCH_CHECK(weight.has_value() == bias.has_value(), "token_shift_mix: weight and bias must be given together, got ",
              weight ? "weight" : "bias", " alone");
  if (weight) check_parameter("weight", *weight, x);
  if (bias) check_parameter("bias", *bias, x);
}

std::vector<at::Tensor> token_shift_mix(const at::Tensor& x, at::TensorList mixes,
                                        const std::optional<at::Tensor>& weight, const std::optional<at::Tensor>& bias,
                                        int64_t height, int64_t width) {
  static const auto op =
      c10::Dispatcher::singleton()
          .findSchemaOrThrow("vrwkv::token_shift_mix", "")
          .typed<std::vector<at::Tensor>(const at::Tensor&, at::TensorList, const std::optional<at::Tensor>&,
                                         const std::optional<at::Tensor>&, int64_t, int64_t)>();
  return op.call(x, mixes, weight, bias, height, width);
}

TORCH_LIBRARY_FRAGMENT(vrwkv, m) {
  m.def("token_shift_mix(Tensor x, Tensor[] mixes, Tensor? weight, Tensor? bias, int height, int width) -> Tensor[]");
  m.def(
      "_token_shift_mix_backward(Tensor x, Tensor[] mixes, Tensor? weight, Tensor? bias, Tensor[] gradients, int "
      "height, int width) -> (Tensor gx, Tensor sums)");
}

TORCH_LIBRARY_IMPL(vrwkv, CompositeImplicitAutograd, m) { m.impl("token_shift_mix", composite); }

}  // namespace vrwkv::ops
