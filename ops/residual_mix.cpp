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

using OptionalTensor = std::optional<at::Tensor>;

bool never_joined(const at::Tensor& /*x*/, const at::Tensor& /*value*/) { return false; }

}  // namespace

std::tuple<at::Tensor, std::vector<at::Tensor>> residual_mix_composite(
    const at::Tensor& x, const at::Tensor& value, const OptionalTensor& gate, const OptionalTensor& norm_weight,
    const OptionalTensor& norm_bias, const OptionalTensor& scale, const OptionalTensor& mask, at::TensorList mixes,
    int64_t height, int64_t width, double eps) {
  const ResidualBranch branch = residual_branch(value, gate, norm_weight, norm_bias, scale, mask);
  const ResidualOutput sum = residual_add(x, branch, Feed::cast, eps);
  return {sum.x, token_shift_mix(sum.feed, mixes, std::nullopt, std::nullopt, height, width)};
}

ResidualMixOutput residual_mix(const at::Tensor& x, const ResidualBranch& branch, at::TensorList mixes, int64_t height,
                               int64_t width, double eps) {
  TORCH_CHECK(x.defined() && branch.value.defined(), "residual_mix: x and value must be tensors, got an undefined one");
  auto [sum, mixed] = registered_operator<residual_mix_composite>("vrwkv::residual_mix")
                          .call(x, branch.value, optional_tensor(branch.gate), optional_tensor(branch.norm_weight),
                                optional_tensor(branch.norm_bias), optional_tensor(branch.scale),
                                optional_tensor(branch.mask), mixes, height, width, eps);
  return {sum, std::move(mixed)};
}

bool residual_mix_is_joined(const at::Tensor& x, const at::Tensor& value) {
  return needs_gradient({x, value}) &&
         registered_operator<never_joined>("vrwkv::_residual_mix_is_joined").call(x, value);
}

TORCH_LIBRARY_FRAGMENT(vrwkv, m) {
  m.def(
      "residual_mix(Tensor x, Tensor value, Tensor? gate, Tensor? norm_weight, Tensor? norm_bias, Tensor? scale, "
      "Tensor? mask, Tensor[] mixes, int height, int width, float eps) -> (Tensor, Tensor[])");
  // Whether a GPU's kernel takes such arguments.
  m.def("_residual_mix_is_joined(Tensor x, Tensor value) -> bool");
  // Of such a call. gy and `gradients` are those of its results, `feed` is the cast sum. ggate and gscale are undefined
  // without a gate and a scale; gmixes is [mixes, C] in float32.
  m.def(
      "_residual_mix_backward(Tensor gy, Tensor[] gradients, Tensor feed, Tensor value, Tensor? gate, "
      "Tensor norm_weight, Tensor norm_bias, Tensor? scale, Tensor? mask, Tensor[] mixes, int height, int width, "
      "float eps) -> (Tensor gx, Tensor gvalue, Tensor ggate, Tensor gnorm_weight, Tensor gnorm_bias, Tensor gscale, "
      "Tensor gmixes)");
}

TORCH_LIBRARY_IMPL(vrwkv, CompositeImplicitAutograd, m) {
  m.impl("residual_mix", residual_mix_composite);
  m.impl("_residual_mix_is_joined", never_joined);
}

}  // namespace vrwkv::ops
