#include "ops/squared_relu.h"

#include <ATen/Functions.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

namespace vrwkv::ops {
namespace {

at::Tensor composite(const at::Tensor& x) {
  TORCH_CHECK(x.is_floating_point(), "squared_relu: x must be a floating point tensor, got ", x.scalar_type());
  return at::relu(x).square();
}

}  // namespace

at::Tensor squared_relu(const at::Tensor& x) {
  static const auto op =
      c10::Dispatcher::singleton().findSchemaOrThrow("vrwkv::squared_relu", "").typed<at::Tensor(const at::Tensor&)>();
  return op.call(x);
}

TORCH_LIBRARY_FRAGMENT(vrwkv, m) {
  m.def("squared_relu(Tensor x) -> Tensor");
  m.def("_squared_relu_backward(Tensor saved, Tensor gy, bool saved_is_result) -> Tensor");
}

TORCH_LIBRARY_IMPL(vrwkv, CompositeImplicitAutograd, m) { m.impl("squared_relu", composite); }

}  // namespace vrwkv::ops
