#include "ops/squared_relu_mlp.h"

#include <ATen/autocast_mode.h>
#include <torch/library.h>

#include "ops/squared_relu_mlp_kernels.h"

namespace vrwkv::ops {
namespace {

/// x in autocast's dtype. The kernels take the weights as they are, round them, and give gradients of them in float32;
/// for the composition's linear layers autocast casts and keeps what it has cast.
at::Tensor squared_relu_mlp_autocast(const at::Tensor& x, const at::Tensor& key, const at::Tensor& value) {
  const at::Tensor narrow = at::autocast::cached_cast(at::autocast::get_autocast_dtype(at::kCUDA), x, at::kCUDA);
  if (!squared_relu_mlp_is_fused(narrow, key, value)) return squared_relu_mlp_composite(narrow, key, value);
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::DispatchKey::Autocast);
  return squared_relu_mlp(narrow, key, value);
}

}  // namespace

TORCH_LIBRARY_IMPL(vrwkv, Autocast, m) { m.impl("squared_relu_mlp", squared_relu_mlp_autocast); }

}  // namespace vrwkv::ops
