#include "ops/residual_mix.h"

#include <torch/library.h>

#include "ops/linear_composites.h"
#include "ops/needs_gradient.h"
#include "ops/optional_tensor.h"
#include "ops/registered_operator.h"
#include "ops/residual_add_check.h"
#include "ops/token_shift_mix.h"

namespace vrwkv::ops {
namespace {

bool never_joined(const at::Tensor& /*x*/, const at::Tensor& /*value*/) { return false; }

}  // namespace

std::tuple<at::Tensor, std::vector<at::Tensor>> residual_mix_composite(
    const at::Tensor& x, const at::Tensor& value, const std::optional<at::Tensor>& gate,
    const std::optional<at::Tensor>& mask, at::TensorList mixes, const std::optional<at::Tensor>& weight,
    const std::optional<at::Tensor>& bias, int64_t height, int64_t width, double eps) {
  const ResidualOutput sum = residual_add(x, plain_branch(value, gate, mask), Feed::standardized, eps);
  return {sum.x, token_shift_mix(sum.feed, mixes, weight, bias, height, width)};
}

ResidualMixOutput residual_mix(const at::Tensor& x, const ResidualBranch& branch, const SumMixes& mixes, double eps) {
  TORCH_CHECK(!branch.norm_weight.defined() && !branch.norm_bias.defined() && !branch.scale.defined(),
              "residual_mix: of the branch value, gate and mask are supported, got a norm or a scale");
  auto [sum, mixed] =
      registered_operator<residual_mix_composite>("vrwkv::residual_mix")
          .call(x, branch.value, optional_tensor(branch.gate), optional_tensor(branch.mask), mixes.mixes,
                optional_tensor(mixes.weight), optional_tensor(mixes.bias), mixes.height, mixes.width, eps);
  return {sum, std::move(mixed)};
}

bool residual_mix_is_joined(const at::Tensor& x, const at::Tensor& value) {
  return needs_gradient({x, value}) &&
         registered_operator<never_joined>("vrwkv::_residual_mix_is_joined").call(x, value);
}

TORCH_LIBRARY_FRAGMENT(vrwkv, m) {
  m.def(
      "residual_mix(Tensor x, Tensor value, Tensor? gate, Tensor? mask, Tensor[] mixes, Tensor? weight, Tensor? bias, "
      "int height, int width, float eps) -> (Tensor, Tensor[])");
  // Whether a GPU's kernel takes such arguments.
  m.def("_residual_mix_is_joined(Tensor x, Tensor value) -> bool");
  // Of such a call. gy and `gradients` are those of its results, `feed` and `rstd` of _residual_add_forward; `value` is
  // needed with a gate. The sums are those of token_shift_mix; ggate is undefined without a gate.
  m.def(
      "_residual_mix_backward(Tensor gy, Tensor[] gradients, Tensor feed, Tensor rstd, Tensor? value, Tensor? gate, "
      "Tensor? mask, Tensor[] mixes, Tensor? weight, Tensor? bias, int height, int width) -> "
      "(Tensor gx, Tensor gvalue, Tensor ggate, Tensor sums)");
}

TORCH_LIBRARY_IMPL(vrwkv, CompositeImplicitAutograd, m) {
  m.impl("residual_mix", residual_mix_composite);
  m.impl("_residual_mix_is_joined", never_joined);
}

}  // namespace vrwkv::ops
