#include "ops/token_mean.h"

#include <ATen/OpMathType.h>
#include <ATen/ops/mean.h>
#include <torch/library.h>

#include "ops/registered_operator.h"
#include "ops/token_mean_check.h"

namespace vrwkv::ops {

void check_token_mean(const at::Tensor& x) {
  TORCH_CHECK(x.dim() == 3 && x.is_floating_point(), "token_mean: x must be floating point [B, T, C], got ", x.sizes(),
              " of ", x.scalar_type());
}

at::Tensor token_mean_composite(const at::Tensor& x) {
  check_token_mean(x);
  return x.mean({1}, /*keepdim=*/false, at::toOpMathType(x.scalar_type()));
}

bool token_mean_is_fused(const at::Tensor& x) {
  return x.scalar_type() == at::kBFloat16 || x.scalar_type() == at::kHalf;
}

at::Tensor token_mean(const at::Tensor& x) { return registered_operator<token_mean>("vrwkv::token_mean").call(x); }

TORCH_LIBRARY_FRAGMENT(vrwkv, m) {
  m.def("token_mean(Tensor x) -> Tensor");
  m.def("_token_mean_backward(Tensor gy, int tokens, ScalarType dtype) -> Tensor gx");
}

TORCH_LIBRARY_IMPL(vrwkv, CompositeImplicitAutograd, m) { m.impl("token_mean", token_mean_composite); }

}  // namespace vrwkv::ops
