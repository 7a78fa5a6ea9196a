#include "tools/bi_wkv_weights.h"

#include <ATen/Functions.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>

#include "ops/bi_wkv.h"
#include "ops/bi_wkv_published.h"

namespace vrwkv::tools {

at::Tensor bi_wkv_weights(const BiWkvInputs& inputs, int64_t token, WkvFormula formula) {
  const c10::AutoGradMode gradients(true);
  const at::Tensor w = inputs.w.detach(), u = inputs.u.detach(), k = inputs.k.detach();
  const at::Tensor v = inputs.v.detach().requires_grad_();
  const at::Tensor y = formula == WkvFormula::published ? ops::bi_wkv_published(w, u, k, v) : ops::bi_wkv(w, u, k, v);
  return torch::autograd::grad({y.select(1, token).sum()}, {v}).front();
}

}  // namespace vrwkv::tools
