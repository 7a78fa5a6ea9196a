#include "ops/patch_embed.h"

#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <tuple>

#include "ops/backward_operators.h"
#include "ops/needs_gradient.h"
#include "ops/patch_embed_kernels.h"

namespace vrwkv::ops {
namespace {

/// For CUDA's kernel, from float32 parameters.
class PatchEmbedFunction : public torch::autograd::Function<PatchEmbedFunction> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& images,
                            const at::Tensor& weight, const at::Tensor& bias, const at::Tensor& places) {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    const auto [tokens, rows] = patch_embed_forward(images, weight, bias, places, weight.requires_grad());
    context->save_for_backward({weight.requires_grad() ? rows : at::Tensor()});
    context->saved_data["weight_sizes"] = weight.sizes();
    return tokens;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    const at::Tensor& gy = gradients[0];
    at::Tensor gweight, gbias, gplaces;
    if (context->needs_input_grad(1)) {
      const at::Tensor rows = context->get_saved_variables()[0];
      gweight = linear_weight_gradients(gy, rows)[0].view(context->saved_data["weight_sizes"].toIntVector());
    }
    if (context->needs_input_grad(2) || context->needs_input_grad(3)) {
      std::tie(gbias, gplaces) = add_places_gradients(gy);
    }
    return {at::Tensor(), gweight, gbias, gplaces};
  }
};

at::Tensor patch_embed_autograd(const at::Tensor& images, const at::Tensor& weight, const at::Tensor& bias,
                                const at::Tensor& places, at::ScalarType dtype) {
  if (needs_gradient({images}) || !patch_embed_is_fused(images, weight, bias, places, dtype)) {
    return patch_embed_composite(images, weight, bias, places, dtype);
  }
  if (!needs_gradient({weight, bias, places})) {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    return patch_embed(images, weight, bias, places, dtype);
  }
  return PatchEmbedFunction::apply(images, weight, bias, places);
}

}  // namespace

TORCH_LIBRARY_IMPL(vrwkv, AutogradCUDA, m) { m.impl("patch_embed", patch_embed_autograd); }

}  // namespace vrwkv::ops
