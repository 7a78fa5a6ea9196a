#include "ops/bi_wkv.h"

#include <ATen/autocast_mode.h>
#include <torch/library.h>

#include "ops/bi_wkv_gated.h"

namespace vrwkv::ops {
namespace {

/// k and v in autocast's dtype, as the linear layers before them give them; w and u keep float32, since decay / T needs
/// it.
template <c10::DeviceType device, c10::DispatchKey key>
at::Tensor bi_wkv_autocast(const at::Tensor& w, const at::Tensor& u, const at::Tensor& k, const at::Tensor& v) {
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(key);
  const auto dtype = at::autocast::get_autocast_dtype(device);
  return bi_wkv(at::autocast::cached_cast(at::kFloat, w, device), at::autocast::cached_cast(at::kFloat, u, device),
                at::autocast::cached_cast(dtype, k, device), at::autocast::cached_cast(dtype, v, device));
}

template <c10::DeviceType device, c10::DispatchKey key>
at::Tensor bi_wkv_gated_autocast(const at::Tensor& w, const at::Tensor& u, const at::Tensor& k, const at::Tensor& v,
                                 const at::Tensor& r) {
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(key);
  const auto dtype = at::autocast::get_autocast_dtype(device);
  return bi_wkv_gated(at::autocast::cached_cast(at::kFloat, w, device),
                      at::autocast::cached_cast(at::kFloat, u, device), at::autocast::cached_cast(dtype, k, device),
                      at::autocast::cached_cast(dtype, v, device), at::autocast::cached_cast(dtype, r, device));
}

}  // namespace

TORCH_LIBRARY_IMPL(vrwkv, Autocast, m) {
  m.impl("bi_wkv", bi_wkv_autocast<c10::DeviceType::CUDA, c10::DispatchKey::Autocast>);
  m.impl("bi_wkv_gated", bi_wkv_gated_autocast<c10::DeviceType::CUDA, c10::DispatchKey::Autocast>);
}

TORCH_LIBRARY_IMPL(vrwkv, AutocastCPU, m) {
  m.impl("bi_wkv", bi_wkv_autocast<c10::DeviceType::CPU, c10::DispatchKey::AutocastCPU>);
  m.impl("bi_wkv_gated", bi_wkv_gated_autocast<c10::DeviceType::CPU, c10::DispatchKey::AutocastCPU>);
}

}  // namespace vrwkv::ops
