#include "ops/token_shift_check.h"

#include <ATen/OpMathType.h>
#include <ATen/TensorOperators.h>

#include "ops/q_shift.h"
#include "ops/q_shift_geometry.h"

namespace vrwkv::ops {
namespace {

void check_parameter(const char* op, const std::string& name, const at::Tensor& tensor, const at::Tensor& x) {
  const int64_t channels = x.size(2);
  const auto sums = at::toOpMathType(x.scalar_type());
  TORCH_CHECK(tensor.numel() == channels && (tensor.dim() == 1 || tensor.dim() == 3), op, ": ", name,
              " must be [C] or [1, 1, C] with C = ", channels, ", got ", tensor.sizes());
  TORCH_CHECK(tensor.scalar_type() == sums || tensor.scalar_type() == x.scalar_type(), op, ": ", name, " must be ",
              sums, " or have the dtype of x, ", x.scalar_type(), ", got ", tensor.scalar_type());
  TORCH_CHECK(tensor.device() == x.device(), op, ": ", name, " must be on the device of x, ", x.device(), ", got ",
              tensor.device());
}

}  // namespace

void check_token_shift(const TokenShiftNames& names, const at::Tensor& x, at::TensorList mixes,
                       const std::optional<at::Tensor>& weight, const std::optional<at::Tensor>& bias, int64_t height,
                       int64_t width, std::optional<int64_t> group) {
  check_q_shift(x, height, width, 1, group);
  for (size_t i = 0; i < mixes.size(); ++i) {
    check_parameter(names.op, std::string(names.mixes) + "[" + std::to_string(i) + "]", mixes[i], x);
  }
  TORCH_CHECK(weight.has_value() == bias.has_value(), names.op, ": weight and bias must be given together, got ",
              weight ? "weight" : "bias", " alone");
  if (weight) check_parameter(names.op, "weight", *weight, x);
  if (bias) check_parameter(names.op, "bias", *bias, x);
}

ShiftedNorm shift_norm(const at::Tensor& x, const std::optional<at::Tensor>& weight,
                       const std::optional<at::Tensor>& bias, int64_t height, int64_t width,
                       std::optional<int64_t> group) {
  const auto sums = at::toOpMathType(x.scalar_type());
  const at::Tensor wide = x.to(sums);
  const at::Tensor n = weight ? wide * weight->to(sums) + bias->to(sums) : wide;
  return {n, q_shift(n, height, width, group)};
}

}  // namespace vrwkv::ops
