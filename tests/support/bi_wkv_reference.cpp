#include "tests/support/bi_wkv_reference.h"

#include <ATen/ATen.h>

namespace vrwkv::testing {

at::Tensor bi_wkv_reference(const at::Tensor& w, const at::Tensor& u, const at::Tensor& k, const at::Tensor& v) {
  const int64_t tokens = k.size(1);
  const at::Tensor position = at::arange(tokens, k.options());
  const at::Tensor distance = (position.unsqueeze(1) - position.unsqueeze(0)).abs();  // [t, i]
  const at::Tensor self = at::eye(tokens, k.options().dtype(at::kBool)).unsqueeze(0).unsqueeze(-1);
  const at::Tensor keys = k.unsqueeze(1);  // [B, 1, i, C]
  const at::Tensor others = keys - (distance - 1).unsqueeze(0).unsqueeze(-1) * w;
  const at::Tensor exponents = at::where(self, keys + u, others);  // [B, t, i, C]
  return (at::softmax(exponents, 2) * v.unsqueeze(1)).sum(2);
}

}  // namespace vrwkv::testing
