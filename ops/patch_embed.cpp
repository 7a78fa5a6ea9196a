#include "ops/patch_embed.h"

#include <ATen/ops/flatten.h>
#include <torch/library.h>

#include "ops/add_places.h"
#include "ops/linear.h"
#include "ops/patch_embed_kernels.h"
#include "ops/patch_rows.h"
#include "ops/registered_operator.h"

namespace vrwkv::ops {
namespace {

bool never_fused(const at::Tensor& /*images*/, const at::Tensor& /*weight*/, const at::Tensor& /*bias*/,
                 const at::Tensor& /*places*/, at::ScalarType /*dtype*/) {
  return false;
}

}  // namespace

at::Tensor patch_embed_composite(const at::Tensor& images, const at::Tensor& weight, const at::Tensor& bias,
                                 const at::Tensor& places, at::ScalarType dtype) {
  TORCH_CHECK(
      weight.dim() == 4 && weight.size(2) == weight.size(3) && images.dim() == 4 && images.size(1) == weight.size(1),
      "patch_embed: weight must be [D, C, P, P] for images [B, C, H, W], got ", weight.sizes(), " for ",
      images.sizes());
  return add_places(linear(patch_rows(images, weight.size(2), dtype), weight.flatten(1)), bias, places);
}

at::Tensor patch_embed(const at::Tensor& images, const at::Tensor& weight, const at::Tensor& bias,
                       const at::Tensor& places, at::ScalarType dtype) {
  return registered_operator<patch_embed>("vrwkv::patch_embed").call(images, weight, bias, places, dtype);
}

bool patch_embed_is_fused(const at::Tensor& images, const at::Tensor& weight, const at::Tensor& bias,
                          const at::Tensor& places, at::ScalarType dtype) {
  return registered_operator<patch_embed_is_fused>("vrwkv::_patch_embed_is_fused")
      .call(images, weight, bias, places, dtype);
}

std::tuple<at::Tensor, at::Tensor> patch_embed_forward(const at::Tensor& images, const at::Tensor& weight,
                                                       const at::Tensor& bias, const at::Tensor& places,
                                                       bool keep_rows) {
  return registered_operator<patch_embed_forward>("vrwkv::_patch_embed_forward")
      .call(images, weight, bias, places, keep_rows);
}

TORCH_LIBRARY_FRAGMENT(vrwkv, m) {
  m.def("patch_embed(Tensor images, Tensor weight, Tensor bias, Tensor places, ScalarType dtype) -> Tensor");
  m.def("_patch_embed_is_fused(Tensor images, Tensor weight, Tensor bias, Tensor places, ScalarType dtype) -> bool");
  m.def(
      "_patch_embed_forward(Tensor images, Tensor weight, Tensor bias, Tensor places, bool keep_rows) -> (Tensor "
      "tokens, Tensor rows)");
}

TORCH_LIBRARY_IMPL(vrwkv, CompositeImplicitAutograd, m) {
  m.impl("patch_embed", patch_embed_composite);
  m.impl("_patch_embed_is_fused", never_fused);
}

}  // namespace vrwkv::ops
