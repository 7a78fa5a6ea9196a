#include <c10/cuda/CUDAGuard.h>
#include <torch/library.h>

#include "ops/bi_wkv_check.h"
#include "ops/cuda/bi_wkv_launch.cuh"

namespace vrwkv::ops::cuda {
namespace {

at::Tensor forward(const at::Tensor& w, const at::Tensor& u, const at::Tensor& k, const at::Tensor& v) {
  check_bi_wkv(w, u, k, v);
  const c10::cuda::CUDAGuard guard(k.device());
  return bi_wkv_forward(w, u, k, v, {}, false).y;
}

std::tuple<at::Tensor, at::Tensor> forward_with_sums(const at::Tensor& w, const at::Tensor& u, const at::Tensor& k,
                                                     const at::Tensor& v) {
  check_bi_wkv(w, u, k, v);
  const c10::cuda::CUDAGuard guard(k.device());
  const auto [y, sums] = bi_wkv_forward(w, u, k, v, {}, true);
  return {y, sums};
}

at::Tensor forward_gated(const at::Tensor& w, const at::Tensor& u, const at::Tensor& k, const at::Tensor& v,
                         const at::Tensor& r) {
  check_bi_wkv_gated(w, u, k, v, r);
  const c10::cuda::CUDAGuard guard(k.device());
  return bi_wkv_forward(w, u, k, v, r, false).y;
}

std::tuple<at::Tensor, at::Tensor> forward_gated_with_sums(const at::Tensor& w, const at::Tensor& u,
                                                           const at::Tensor& k, const at::Tensor& v,
                                                           const at::Tensor& r) {
  check_bi_wkv_gated(w, u, k, v, r);
  const c10::cuda::CUDAGuard guard(k.device());
  const auto [y, sums] = bi_wkv_forward(w, u, k, v, r, true);
  return {y, sums};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> backward(const at::Tensor& w, const at::Tensor& u,
                                                                    const at::Tensor& k, const at::Tensor& v,
                                                                    const at::Tensor& gy, const at::Tensor& sums) {
  check_bi_wkv_backward(w, u, k, v, gy);
  const c10::cuda::CUDAGuard guard(k.device());
  const BiWkvGradients g = bi_wkv_backward(w, u, k, v, {}, gy, sums);
  return {g.gw, g.gu, g.gk, g.gv};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor> backward_gated(
    const at::Tensor& w, const at::Tensor& u, const at::Tensor& k, const at::Tensor& v, const at::Tensor& r,
    const at::Tensor& gy, const at::Tensor& sums) {
  check_bi_wkv_gated(w, u, k, v, r);
  check_bi_wkv_backward(w, u, k, v, gy);
  const c10::cuda::CUDAGuard guard(k.device());
  const BiWkvGradients g = bi_wkv_backward(w, u, k, v, r, gy, sums);
  return {g.gw, g.gu, g.gk, g.gv, g.gr};
}

}  // namespace

TORCH_LIBRARY_IMPL(vrwkv, CUDA, m) {
  m.impl("bi_wkv", forward);
  m.impl("_bi_wkv_with_sums", forward_with_sums);
  m.impl("_bi_wkv_backward", backward);
  m.impl("bi_wkv_gated", forward_gated);
  m.impl("_bi_wkv_gated_with_sums", forward_gated_with_sums);
  m.impl("_bi_wkv_gated_backward", backward_gated);
}

}  // namespace vrwkv::ops::cuda
