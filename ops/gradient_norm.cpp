#include "ops/gradient_norm.h"

#include <torch/library.h>

#include "ops/registered_operator.h"

namespace vrwkv::ops {

std::tuple<at::Tensor, at::Tensor> gradient_norm(at::TensorList gradients, at::TensorList factors, double max_norm) {
  return registered_operator<gradient_norm>("vrwkv::_gradient_norm").call(gradients, factors, max_norm);
}

TORCH_LIBRARY_FRAGMENT(vrwkv, m) {
  m.def("_gradient_norm(Tensor[] gradients, Tensor[] factors, float max_norm) -> (Tensor norm, Tensor coefficient)");
}

}  // namespace vrwkv::ops
