#include "ops/bi_wkv6.h"

#include <ATen/autocast_mode.h>
#include <torch/library.h>

namespace vrwkv::ops {
namespace {

/// r, k and v in autocast's dtype, as the linear layers before them give them; w and u keep float32, since w passes two
/// exponentials.
template <c10::DeviceType device, c10::DispatchKey key>
at::Tensor bi_wkv6_autocast(const at::Tensor& r, const at::Tensor& k, const at::Tensor& v, const at::Tensor& w,
                            const at::Tensor& u) {
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(key);
  const auto dtype = at::autocast::get_autocast_dtype(device);
  return bi_wkv6(at::autocast::cached_cast(dtype, r, device), at::autocast::cached_cast(dtype, k, device),
                 at::autocast::cached_cast(dtype, v, device), at::autocast::cached_cast(at::kFloat, w, device),
                 at::autocast::cached_cast(at::kFloat, u, device));
}

}  // namespace

TORCH_LIBRARY_IMPL(vrwkv, Autocast, m) {
  m.impl("bi_wkv6", bi_wkv6_autocast<c10::DeviceType::CUDA, c10::DispatchKey::Autocast>);
}

TORCH_LIBRARY_IMPL(vrwkv, AutocastCPU, m) {
  m.impl("bi_wkv6", bi_wkv6_autocast<c10::DeviceType::CPU, c10::DispatchKey::AutocastCPU>);
}

}  // namespace vrwkv::ops
