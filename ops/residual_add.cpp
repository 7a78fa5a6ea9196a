#include "ops/residual_add.h"

#include <ATen/Functions.h>
#include <ATen/OpMathType.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

#include <limits>

#include "ops/optional_tensor.h"
#include "ops/residual_add_check.h"

namespace vrwkv::ops {
namespace {

/// The widest row that a warp keeps in its registers.
constexpr int64_t kFusedChannels = 1024;

/// What the arguments are held against: x, or value where there is no x.
struct Model {
  const char* name;
  const at::Tensor& tensor;
  at::ScalarType dtype;  ///< Of the sum.
};

void check_device(const char* name, const at::Tensor& tensor, const Model& model) {
  TORCH_CHECK(tensor.device() == model.tensor.device(), "residual_add: ", name, " must be on the device of ",
              model.name, ", ", model.tensor.device(), ", got ", tensor.device());
}

void check_sizes(const char* name, const at::Tensor& tensor, const Model& model) {
  TORCH_CHECK(tensor.sizes() == model.tensor.sizes(), "residual_add: ", name, " must have the shape of ", model.name,
              ", ", model.tensor.sizes(), ", got ", tensor.sizes());
  check_device(name, tensor, model);
}

/// dtype and device of a parameter or mask.
void check_parameter_kind(const char* name, const at::Tensor& tensor, const Model& model) {
  const auto sums = at::toOpMathType(model.dtype);
  TORCH_CHECK(tensor.scalar_type() == model.dtype || tensor.scalar_type() == sums, "residual_add: ", name, " must be ",
              sums, " or have the dtype of ", model.name, ", ", model.dtype, ", got ", tensor.scalar_type());
  check_device(name, tensor, model);
}

void check_per_channel(const char* name, const at::Tensor& tensor, const Model& model) {
  const int64_t channels = model.tensor.size(2);
  TORCH_CHECK(tensor.dim() == 1 && tensor.size(0) == channels, "residual_add: ", name, " must be [C] = [", channels,
              "], got ", tensor.sizes());
  check_parameter_kind(name, tensor, model);
}

std::tuple<at::Tensor, at::Tensor> residual_add_implicit(
    const std::optional<at::Tensor>& x, const at::Tensor& value, const std::optional<at::Tensor>& gate,
    const std::optional<at::Tensor>& norm_weight, const std::optional<at::Tensor>& norm_bias,
    const std::optional<at::Tensor>& scale, const std::optional<at::Tensor>& mask, int64_t feed, double eps) {
  return residual_add_composite(part(x), residual_branch(value, gate, norm_weight, norm_bias, scale, mask), feed, eps);
}

}  // namespace

at::ScalarType residual_add_dtype(const at::Tensor& x, const ResidualBranch& branch) {
  if (x.defined()) return x.scalar_type();
  return branch.norm_weight.defined() ? branch.norm_weight.scalar_type() : branch.value.scalar_type();
}

void check_residual_add(const at::Tensor& x, const ResidualBranch& branch, int64_t feed) {
  TORCH_CHECK(branch.value.defined(), "residual_add: value must be a tensor, got an undefined one");
  const Model model{x.defined() ? "x" : "value", x.defined() ? x : branch.value, residual_add_dtype(x, branch)};
  TORCH_CHECK(model.tensor.dim() == 3, "residual_add: ", model.name, " must be [B, T, C], got ", model.tensor.sizes());
  const auto dtype = model.dtype;
  TORCH_CHECK(dtype == at::kDouble || dtype == at::kFloat || dtype == at::kBFloat16 || dtype == at::kHalf,
              "residual_add: ", x.defined() ? "x" : "the sum", " must be float64, float32, bfloat16 or float16, got ",
              dtype);
  check_sizes("value", branch.value, model);
  const auto narrow = branch.value.scalar_type();
  TORCH_CHECK(narrow == dtype || (dtype == at::kFloat && (narrow == at::kBFloat16 || narrow == at::kHalf)),
              "residual_add: value must have the dtype of ", x.defined() ? "x, " : "norm_weight, ", dtype,
              dtype == at::kFloat ? ", or be bfloat16 or float16, got " : ", got ", narrow);
  if (branch.gate.defined()) {
    check_sizes("gate", branch.gate, model);
    TORCH_CHECK(branch.gate.scalar_type() == narrow, "residual_add: gate must have the dtype of value, ", narrow,
                ", got ", branch.gate.scalar_type());
  }
  TORCH_CHECK(branch.norm_weight.defined() == branch.norm_bias.defined(),
              "residual_add: norm_weight and norm_bias must be given together, got only ",
              branch.norm_weight.defined() ? "norm_weight" : "norm_bias");
  if (branch.norm_weight.defined()) {
    check_per_channel("norm_weight", branch.norm_weight, model);
    check_per_channel("norm_bias", branch.norm_bias, model);
  }
  if (branch.scale.defined()) check_per_channel("scale", branch.scale, model);
  if (branch.mask.defined()) {
    TORCH_CHECK(branch.mask.numel() == model.tensor.size(0), "residual_add: mask must have B = ", model.tensor.size(0),
                " elements, got ", branch.mask.sizes());
    check_parameter_kind("mask", branch.mask, model);
  }
  TORCH_CHECK(feed >= 0 && feed <= 2, "residual_add: feed must be 0 (none), 1 (cast) or 2 (standardized), got ", feed);
}

bool residual_add_is_fused(const at::Tensor& x, const ResidualBranch& branch) {
  const at::Tensor& value = branch.value;
  return residual_add_dtype(x, branch) != at::kDouble && value.size(2) <= kFusedChannels &&
         value.size(0) * value.size(1) <= std::numeric_limits<int32_t>::max();
}

std::tuple<at::Tensor, at::Tensor> residual_add_composite(const at::Tensor& x, const ResidualBranch& branch,
                                                          int64_t feed, double eps) {
  check_residual_add(x, branch, feed);
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
  const auto dtype = residual_add_dtype(x, branch);
  const auto sums = at::toOpMathType(dtype);
  const int64_t channels = branch.value.size(2);
  at::Tensor z = branch.value.to(sums);
  if (branch.gate.defined()) z = z * at::sigmoid(branch.gate.to(sums));
  if (branch.norm_weight.defined()) {
    z = at::layer_norm(z, {channels}, branch.norm_weight.to(sums), branch.norm_bias.to(sums), eps);
  }
  if (branch.scale.defined()) z = z * branch.scale.to(sums);
  if (branch.mask.defined()) z = z * branch.mask.detach().to(sums).reshape({-1, 1, 1});
  const at::Tensor sum = (x.defined() ? x.to(sums) + z : z).contiguous();
  const at::Tensor y = sum.to(dtype);
  switch (static_cast<Feed>(feed)) {
    case Feed::cast:
      // A copy even of the same dtype: outputs of a registered op must not share memory.
      return {y, sum.to(branch.value.scalar_type(), /*non_blocking=*/false, /*copy=*/true)};
    case Feed::standardized:
      return {y, at::layer_norm(sum, {channels}, {}, {}, eps).to(branch.value.scalar_type())};
    case Feed::none:
      break;
  }
  return {y, at::empty({0}, branch.value.options())};
}

ResidualOutput residual_add(const at::Tensor& x, const ResidualBranch& branch, Feed feed, double eps) {
  static const auto op =
      c10::Dispatcher::singleton()
          .findSchemaOrThrow("vrwkv::residual_add", "")
          .typed<std::tuple<at::Tensor, at::Tensor>(const std::optional<at::Tensor>&, const at::Tensor&,
                                                    const std::optional<at::Tensor>&, const std::optional<at::Tensor>&,
                                                    const std::optional<at::Tensor>&, const std::optional<at::Tensor>&,
                                                    const std::optional<at::Tensor>&, int64_t, double)>();
  TORCH_CHECK(branch.value.defined(), "residual_add: value must be a tensor, got an undefined one");
  const bool shared = feed == Feed::cast && branch.value.scalar_type() == residual_add_dtype(x, branch);
  const auto [y, fed] =
      op.call(optional_tensor(x), branch.value, optional_tensor(branch.gate), optional_tensor(branch.norm_weight),
              optional_tensor(branch.norm_bias), optional_tensor(branch.scale), optional_tensor(branch.mask),
              static_cast<int64_t>(shared ? Feed::none : feed), eps);
  if (shared) return {y, y};
  return {y, feed == Feed::none ? at::Tensor() : fed};
}

TORCH_LIBRARY_FRAGMENT(vrwkv, m) {
  m.def(
      "residual_add(Tensor? x, Tensor value, Tensor? gate, Tensor? norm_weight, Tensor? norm_bias, Tensor? scale, "
      "Tensor? mask, int feed, float eps) -> (Tensor, Tensor)");
  // The CUDA kernels. rstd is [B * T], 1 / sqrt(var + eps) of the standardized feed.
  m.def(
      "_residual_add_forward(Tensor? x, Tensor value, Tensor? gate, Tensor? norm_weight, Tensor? norm_bias, "
      "Tensor? scale, Tensor? mask, int feed, float eps) -> (Tensor y, Tensor fed, Tensor rstd)");
  // Gradients that are not needed are undefined. `value` and `gate` are needed where the branch has a gate, a norm or
  // a scale; `fed` and `rstd` where the feed is standardized.
  m.def(
      "_residual_add_backward(Tensor? gy, Tensor? gfeed, Tensor? value, Tensor? gate, Tensor? norm_weight, "
      "Tensor? norm_bias, Tensor? scale, Tensor? mask, Tensor? fed, Tensor? rstd, ScalarType x_dtype, "
      "ScalarType value_dtype, float eps, bool[6] needed) -> (Tensor gx, Tensor gvalue, Tensor ggate, "
      "Tensor gnorm_weight, Tensor gnorm_bias, Tensor gscale)");
}

TORCH_LIBRARY_IMPL(vrwkv, CompositeImplicitAutograd, m) { m.impl("residual_add", residual_add_implicit); }

}  // namespace vrwkv::ops
