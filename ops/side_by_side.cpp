#include "ops/side_by_side.h"

#include <ATen/Functions.h>

#include <algorithm>
#include <vector>

namespace vrwkv::ops {
namespace {

/// Whether `parts` are neighbouring slices of a contiguous tensor [..., parts C].
bool are_slices(at::TensorList parts) {
  const at::Tensor& first = parts[0];
  if (!std::ranges::all_of(parts, [](const at::Tensor& part) { return part.defined(); }) || first.numel() == 0) {
    return false;
  }
  int64_t stride = 1;
  for (int64_t dim = first.dim() - 1; dim >= 0; --dim) {
    if (first.size(dim) > 1 && first.stride(dim) != stride) return false;
    stride *= first.size(dim) * (dim == first.dim() - 1 ? static_cast<int64_t>(parts.size()) : 1);
  }
  for (size_t i = 0; i < parts.size(); ++i) {
    const int64_t offset = first.storage_offset() + static_cast<int64_t>(i) * first.size(-1);
    if (!parts[i].is_alias_of(first) || parts[i].storage_offset() != offset || parts[i].sizes() != first.sizes() ||
        parts[i].strides() != first.strides() || parts[i].scalar_type() != first.scalar_type()) {
      return false;
    }
  }
  return true;
}

}  // namespace

at::Tensor side_by_side(at::TensorList parts, const at::Tensor& like) {
  if (are_slices(parts)) {
    std::vector<int64_t> sizes = parts[0].sizes().vec(), strides(sizes.size(), 1);
    sizes.back() *= static_cast<int64_t>(parts.size());
    for (size_t dim = sizes.size() - 1; dim > 0; --dim) strides[dim - 1] = strides[dim] * sizes[dim];
    return parts[0].as_strided(sizes, strides);
  }
  std::vector<at::Tensor> defined = parts.vec();
  for (at::Tensor& part : defined) {
    if (!part.defined()) part = at::zeros_like(like);
  }
  return at::cat(defined, -1);
}

}  // namespace vrwkv::ops
