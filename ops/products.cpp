#include "ops/products.h"

#include <ATen/Functions.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/library.h>

#include "ops/registered_operator.h"

namespace vrwkv::ops {

std::vector<at::Tensor> products_one_by_one(at::TensorList rows, at::TensorList weights, bool transposed) {
  TORCH_CHECK(rows.size() == weights.size(), "_products: as many weights as rows expected, ", rows.size(), ", got ",
              weights.size());
  std::vector<at::Tensor> results;
  for (size_t i = 0; i < rows.size(); ++i) {
    results.push_back(transposed ? at::matmul(rows[i], weights[i]) : at::linear(rows[i], weights[i]));
  }
  return results;
}

std::vector<at::Tensor> products(at::TensorList rows, at::TensorList weights, bool transposed) {
  return registered_operator<products_one_by_one>("vrwkv::_products").call(rows, weights, transposed);
}

at::Tensor product(const at::Tensor& rows, const at::Tensor& weight, bool transposed) {
  return products(rows, weight, transposed)[0];
}

TORCH_LIBRARY_FRAGMENT(vrwkv, m) {
  m.def("_products(Tensor[] rows, Tensor[] weights, bool transposed=False) -> Tensor[]");
}

TORCH_LIBRARY_IMPL(vrwkv, CompositeExplicitAutograd, m) { m.impl("_products", products_one_by_one); }

TORCH_LIBRARY_IMPL(vrwkv, Autograd, m) { m.impl("_products", torch::autograd::autogradNotImplementedFallback()); }

}  // namespace vrwkv::ops
