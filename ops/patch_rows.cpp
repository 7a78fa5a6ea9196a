#include "ops/patch_rows.h"

#include <ATen/ops/flatten.h>
#include <ATen/ops/permute.h>
#include <ATen/ops/unflatten.h>
#include <torch/library.h>

#include "ops/patch_rows_check.h"
#include "ops/registered_operator.h"

namespace vrwkv::ops {

void check_patch_rows(const at::Tensor& images, int64_t patch, at::ScalarType dtype) {
  TORCH_CHECK(images.dim() == 4 && images.is_floating_point(),
              "patch_rows: images must be floating point [B, C, H, W], got ", images.sizes(), " of ",
              images.scalar_type());
  TORCH_CHECK(patch > 0 && images.size(2) % patch == 0 && images.size(3) % patch == 0,
              "patch_rows: height and width must be multiples of patch = ", patch, ", got ", images.sizes());
  TORCH_CHECK(at::isFloatingType(dtype), "patch_rows: dtype must be floating point, got ", dtype);
}

at::Tensor patch_rows_composite(const at::Tensor& images, int64_t patch, at::ScalarType dtype) {
  check_patch_rows(images, patch, dtype);
  // [B, rows, columns, C, patch, patch]; no number here depends on the batch, so that an exported model takes any.
  const at::Tensor pixels = images.unflatten(2, {images.size(2) / patch, patch})
                                .unflatten(4, {images.size(3) / patch, patch})
                                .permute({0, 2, 4, 1, 3, 5});
  // Cast and rearranged in one pass.
  return pixels.to(dtype, /*non_blocking=*/false, /*copy=*/false, at::MemoryFormat::Contiguous)
      .flatten(3)
      .flatten(1, 2);
}

at::Tensor patch_rows(const at::Tensor& images, int64_t patch, at::ScalarType dtype) {
  return registered_operator<patch_rows>("vrwkv::patch_rows").call(images, patch, dtype);
}

TORCH_LIBRARY_FRAGMENT(vrwkv, m) { m.def("patch_rows(Tensor images, int patch, ScalarType dtype) -> Tensor"); }

TORCH_LIBRARY_IMPL(vrwkv, CompositeImplicitAutograd, m) { m.impl("patch_rows", patch_rows_composite); }

}  // namespace vrwkv::ops
