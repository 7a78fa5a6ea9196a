#include "ops/add_places.h"

#include <ATen/OpMathType.h>
#include <ATen/TensorOperators.h>
#include <torch/library.h>

#include "ops/add_places_check.h"
#include "ops/registered_operator.h"

namespace vrwkv::ops {

void check_add_places(const at::Tensor& x, const at::Tensor& bias, const at::Tensor& places) {
  TORCH_CHECK(x.dim() == 3 && x.is_floating_point(), "add_places: x must be floating point [B, T, C], got ", x.sizes(),
              " of ", x.scalar_type());
  TORCH_CHECK(bias.dim() == 1 && bias.size(0) == x.size(2), "add_places: bias must be [C] = [", x.size(2), "], got ",
              bias.sizes());
  TORCH_CHECK(places.dim() == 3 && places.size(0) == 1 && places.size(1) == x.size(1) && places.size(2) == x.size(2),
              "add_places: places must be [1, T, C] = [1, ", x.size(1), ", ", x.size(2), "], got ", places.sizes());
  TORCH_CHECK(bias.device() == x.device() && places.device() == x.device(),
              "add_places: bias and places must be on the device of x, ", x.device(), ", got ", bias.device(), " and ",
              places.device());
}

at::Tensor add_places_composite(const at::Tensor& x, const at::Tensor& bias, const at::Tensor& places) {
  check_add_places(x, bias, places);
  const auto wide = at::toOpMathType(x.scalar_type());
  return (x.to(wide) + (bias.to(wide) + places.to(wide))).to(x.scalar_type());
}

bool add_places_is_fused(const at::Tensor& x, const at::Tensor& bias, const at::Tensor& places) {
  constexpr int64_t kVector = 8;
  return (x.scalar_type() == at::kBFloat16 || x.scalar_type() == at::kHalf) && bias.scalar_type() == at::kFloat &&
         places.scalar_type() == at::kFloat && x.size(2) % kVector == 0;
}

at::Tensor add_places(const at::Tensor& x, const at::Tensor& bias, const at::Tensor& places) {
  return registered_operator<add_places>("vrwkv::add_places").call(x, bias, places);
}

TORCH_LIBRARY_FRAGMENT(vrwkv, m) {
  m.def("add_places(Tensor x, Tensor bias, Tensor places) -> Tensor");
  m.def("_add_places_backward(Tensor gy) -> (Tensor gbias, Tensor gplaces)");
}

TORCH_LIBRARY_IMPL(vrwkv, CompositeImplicitAutograd, m) { m.impl("add_places", add_places_composite); }

}  // namespace vrwkv::ops
