#include "tests/support/residual_add_reference.h"

#include <ATen/ATen.h>

namespace vrwkv::testing {
namespace {

at::Tensor standardized(const at::Tensor& x, double eps) {
  const double channels = static_cast<double>(x.size(2));
  const at::Tensor centered = x - x.sum(2, /*keepdim=*/true) / channels;
  const at::Tensor variance = (centered * centered).sum(2, /*keepdim=*/true) / channels;
  return centered / (variance + eps).sqrt();
}

}  // namespace

ops::ResidualOutput residual_add_reference(const at::Tensor& x, const ops::ResidualBranch& branch, ops::Feed feed,
                                           double eps) {
  at::Tensor z = branch.value;
  if (branch.gate.defined()) z = z / (1 + (-branch.gate).exp());
  if (branch.norm_weight.defined()) z = standardized(z, eps) * branch.norm_weight + branch.norm_bias;
  if (branch.scale.defined()) z = z * branch.scale;
  if (branch.mask.defined()) z = z * branch.mask.view({-1, 1, 1});
  const at::Tensor sum = x.defined() ? x + z : z;
  if (feed == ops::Feed::none) return {sum, {}};
  return {sum, feed == ops::Feed::cast ? sum * 1 : standardized(sum, eps)};
}

}  // namespace vrwkv::testing
