#include "ops/token_shift_linear.h"

#include <torch/library.h>

#include "ops/linear.h"
#include "ops/linear_composites.h"
#include "ops/registered_operator.h"
#include "ops/token_shift_mix.h"

namespace vrwkv::ops {
namespace {

bool never_fused(const at::Tensor& /*x*/, at::TensorList /*mixes*/, at::TensorList /*weights*/) { return false; }

}  // namespace

std::vector<at::Tensor> token_shift_linear_composite(const at::Tensor& x, at::TensorList mixes, at::TensorList weights,
                                                     const std::optional<at::Tensor>& weight,
                                                     const std::optional<at::Tensor>& bias, int64_t height,
                                                     int64_t width) {
  TORCH_CHECK(weights.size() == mixes.size(), "token_shift_linear: as many weights as mixes expected, ", mixes.size(),
              ", got ", weights.size());
  for (size_t j = 0; j < weights.size(); ++j) {
    TORCH_CHECK(weights[j].dim() == 2 && x.dim() == 3 && weights[j].size(1) == x.size(2),
                "token_shift_linear: weights[", j, "] must be [D, C] for x [B, T, C], got ", weights[j].sizes(),
                " for ", x.sizes());
  }
  return linears(token_shift_mix(x, mixes, weight, bias, height, width), weights);
}

std::vector<at::Tensor> token_shift_linear(const at::Tensor& x, at::TensorList mixes, at::TensorList weights,
                                           const std::optional<at::Tensor>& weight,
                                           const std::optional<at::Tensor>& bias, int64_t height, int64_t width) {
  return registered_operator<token_shift_linear_composite>("vrwkv::token_shift_linear")
      .call(x, mixes, weights, weight, bias, height, width);
}

TORCH_LIBRARY_FRAGMENT(vrwkv, m) {
  m.def(
      "token_shift_linear(Tensor x, Tensor[] mixes, Tensor[] weights, Tensor? weight, Tensor? bias, int height, "
      "int width) -> Tensor[]");
  // Whether a GPU's kernel takes such arguments.
  m.def("_token_shift_linear_is_fused(Tensor x, Tensor[] mixes, Tensor[] weights) -> bool");
  // Of such a call, the gradients of x and of the parameters, where `needed`. `gradients` are those of the results,
  // side by side: [B, T, 3 C]. The sums are those of token_shift_mix. `packed`: the weights in
  // kShiftLinearGradientOrder, packed now without.
  m.def(
      "_token_shift_linear_backward(Tensor x, Tensor[] mixes, Tensor[] weights, Tensor? weight, Tensor? bias, "
      "Tensor? packed, Tensor gradients, int height, int width, bool[2] needed) -> "
      "(Tensor gx, Tensor[] gweights, Tensor sums)");
}

TORCH_LIBRARY_IMPL(vrwkv, CompositeImplicitAutograd, m) {
  m.impl("token_shift_linear", token_shift_linear_composite);
  m.impl("_token_shift_linear_is_fused", never_fused);
}

}  // namespace vrwkv::ops
