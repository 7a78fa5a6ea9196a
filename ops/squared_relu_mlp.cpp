#include "ops/squared_relu_mlp.h"

#include <torch/library.h>

#include "ops/linear.h"
#include "ops/registered_operator.h"
#include "ops/squared_relu.h"
#include "ops/squared_relu_mlp_kernels.h"

namespace vrwkv::ops {
namespace {

bool never_fused(const at::Tensor& /*x*/, const at::Tensor& /*key*/, const at::Tensor& /*value*/) { return false; }

}  // namespace

at::Tensor squared_relu_mlp_composite(const at::Tensor& x, const at::Tensor& key, const at::Tensor& value) {
  TORCH_CHECK(x.dim() > 0 && key.dim() == 2 && key.size(1) == x.size(-1),
              "squared_relu_mlp: key must be [H, C] for x [..., C], got ", key.sizes(), " for ", x.sizes());
  TORCH_CHECK(value.dim() == 2 && value.size(1) == key.size(0),
              "squared_relu_mlp: value must be [C, H] for key [H, C], got ", value.sizes(), " for ", key.sizes());
  return linear(squared_relu(linear(x, key)), value);
}

at::Tensor squared_relu_mlp(const at::Tensor& x, const at::Tensor& key, const at::Tensor& value) {
  return registered_operator<squared_relu_mlp>("vrwkv::squared_relu_mlp").call(x, key, value);
}

bool squared_relu_mlp_is_fused(const at::Tensor& x, const at::Tensor& key, const at::Tensor& value) {
  return registered_operator<squared_relu_mlp_is_fused>("vrwkv::_squared_relu_mlp_is_fused").call(x, key, value);
}

std::tuple<at::Tensor, at::Tensor> squared_relu_mlp_forward(const at::Tensor& x, const at::Tensor& key,
                                                            const at::Tensor& value) {
  return registered_operator<squared_relu_mlp_forward>("vrwkv::_squared_relu_mlp_forward").call(x, key, value);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> squared_relu_mlp_backward(const at::Tensor& gy, const at::Tensor& x,
                                                                         const at::Tensor& hidden,
                                                                         const at::Tensor& key, const at::Tensor& value,
                                                                         const std::optional<at::Tensor>& packed,
                                                                         std::array<bool, 3> needed) {
  return registered_operator<squared_relu_mlp_backward>("vrwkv::_squared_relu_mlp_backward")
      .call(gy, x, hidden, key, value, packed, needed);
}

TORCH_LIBRARY_FRAGMENT(vrwkv, m) {
  m.def("squared_relu_mlp(Tensor x, Tensor key, Tensor value) -> Tensor");
  // The kernels of a GPU, and whether they take such arguments.
  m.def("_squared_relu_mlp_is_fused(Tensor x, Tensor key, Tensor value) -> bool");
  m.def("_squared_relu_mlp_forward(Tensor x, Tensor key, Tensor value) -> (Tensor y, Tensor hidden)");
  // Gradients that are not needed are undefined.
  m.def(
      "_squared_relu_mlp_backward(Tensor gy, Tensor x, Tensor hidden, Tensor key, Tensor value, Tensor? packed, "
      "bool[3] needed) -> (Tensor gx, Tensor gkey, Tensor gvalue)");
}

TORCH_LIBRARY_IMPL(vrwkv, CompositeImplicitAutograd, m) {
  m.impl("squared_relu_mlp", squared_relu_mlp_composite);
  m.impl("_squared_relu_mlp_is_fused", never_fused);
}

}  // namespace vrwkv::ops
