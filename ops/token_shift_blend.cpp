#include "ops/token_shift_blend.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

#include "ops/token_shift_check.h"

namespace vrwkv::ops {
namespace {

/// What the CUDA kernels compute, from LibTorch's operations.
std::vector<at::Tensor> composite(const at::Tensor& x, at::TensorList constants, const at::Tensor& shares,
                                  const std::optional<at::Tensor>& weight, const std::optional<at::Tensor>& bias,
                                  int64_t height, int64_t width, std::optional<int64_t> group) {
  check_token_shift_blend(x, constants, shares, weight, bias, height, width, group);
  const auto [n, shifted] = shift_norm(x, weight, bias, height, width, group);
  const at::Tensor difference = shifted - n;
  std::vector<at::Tensor> outputs;
  for (size_t j = 0; j < constants.size(); ++j) {
    const at::Tensor amount = constants[j].to(n.scalar_type()).flatten() + shares[static_cast<int64_t>(j)];
    outputs.push_back(at::addcmul(n, difference, amount).to(x.scalar_type()).contiguous());
  }
  return outputs;
}

}  // namespace

void check_token_shift_blend(const at::Tensor& x, at::TensorList constants, const at::Tensor& shares,
                             const std::optional<at::Tensor>& weight, const std::optional<at::Tensor>& bias,
                             int64_t height, int64_t width, std::optional<int64_t> group) {
  check_token_shift({"token_shift_blend", "constants"}, x, constants, weight, bias, height, width, group);
  TORCH_CHECK(constants.size() == kBlends, "token_shift_blend: constants must be ", kBlends, " tensors, got ",
              constants.size());
  const int64_t sizes[] = {static_cast<int64_t>(kBlends), x.size(0), x.size(1), x.size(2)};
  TORCH_CHECK(shares.sizes() == sizes, "token_shift_blend: shares must be [5, B, T, C] = ", at::IntArrayRef(sizes),
              ", got ", shares.sizes());
  TORCH_CHECK(shares.scalar_type() == x.scalar_type(), "token_shift_blend: shares must have the dtype of x, ",
              x.scalar_type(), ", got ", shares.scalar_type());
  TORCH_CHECK(shares.device() == x.device(), "token_shift_blend: shares must be on the device of x, ", x.device(),
              ", got ", shares.device());
}

std::vector<at::Tensor> token_shift_blend(const at::Tensor& x, at::TensorList constants, const at::Tensor& shares,
                                          const std::optional<at::Tensor>& weight,
                                          const std::optional<at::Tensor>& bias, int64_t height, int64_t width,
                                          std::optional<int64_t> group) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("vrwkv::token_shift_blend", "")
                             .typed<std::vector<at::Tensor>(
                                 const at::Tensor&, at::TensorList, const at::Tensor&, const std::optional<at::Tensor>&,
                                 const std::optional<at::Tensor>&, int64_t, int64_t, std::optional<int64_t>)>();
  return op.call(x, constants, shares, weight, bias, height, width, group);
}

TORCH_LIBRARY_FRAGMENT(vrwkv, m) {
  m.def(
      "token_shift_blend(Tensor x, Tensor[] constants, Tensor shares, Tensor? weight, Tensor? bias, int height, int "
      "width, int? group=None) -> Tensor[]");
  // `sums` are the gradients of the constants, weight and bias, [7, C].
  m.def(
      "_token_shift_blend_backward(Tensor x, Tensor[] constants, Tensor shares, Tensor? weight, Tensor? bias, "
      "Tensor[] gradients, int height, int width, int? group=None) -> (Tensor gx, Tensor gshares, Tensor sums)");
}

TORCH_LIBRARY_IMPL(vrwkv, CompositeImplicitAutograd, m) { m.impl("token_shift_blend", composite); }

}  // namespace vrwkv::ops
