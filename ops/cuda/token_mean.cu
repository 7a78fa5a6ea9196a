#include <ATen/Dispatch.h>
#include <ATen/cuda/CUDAContext.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <torch/library.h>

#include <limits>

#include "ops/cuda/chunk.cuh"
#include "ops/cuda/dependent_launch.cuh"
#include "ops/cuda/sums_in_float.cuh"
#include "ops/token_mean_check.h"

namespace vrwkv::ops::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kTokens = 8;  ///< That a thread writes.

/// gx [B, T, C] from gy [B, C]; blockIdx.y is the image. A thread writes its kVector channels of kTokens neighbours.
template <typename T, int kVector>
__global__ void __launch_bounds__(kThreads) token_mean_backward_kernel(const float* __restrict__ gy, int64_t tokens,
                                                                       int channels, float share, T* __restrict__ gx) {
  start_in_turn();
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x, image = blockIdx.y;
  const int across = channels / kVector, channel = static_cast<int>(index % across) * kVector;
  const int64_t first = index / across * kTokens;
  if (first >= tokens) return;
  float values[kVector];
#pragma unroll
  for (int c = 0; c < kVector; ++c) values[c] = gy[image * channels + channel + c] * share;
  const auto chunk = Chunk<T, kVector>::rounded(values);
  T* const to = gx + (image * tokens + first) * channels + channel;
  const int end = static_cast<int>(min(static_cast<int64_t>(kTokens), tokens - first));
#pragma unroll
  for (int t = 0; t < kTokens; ++t) {
    if (t < end) *reinterpret_cast<Chunk<T, kVector>*>(to + t * channels) = chunk;
  }
}

float share_of(int64_t tokens) { return static_cast<float>(1.0 / static_cast<double>(tokens)); }

at::Tensor forward(const at::Tensor& x) {
  check_token_mean(x);
  if (!token_mean_is_fused(x)) return token_mean_composite(x);
  return sums_in_float(x.contiguous(), 1, share_of(x.size(1)));
}

at::Tensor backward(const at::Tensor& gy, int64_t tokens, at::ScalarType dtype) {
  TORCH_CHECK(gy.dim() == 2 && gy.scalar_type() == at::kFloat, "token_mean_backward: gy must be float32 [B, C], got ",
              gy.sizes(), " of ", gy.scalar_type());
  const c10::cuda::CUDAGuard guard(gy.device());
  const at::Tensor given = gy.contiguous();
  const int64_t batch = gy.size(0), channels = gy.size(1);
  at::Tensor gx = at::empty({batch, tokens, channels}, gy.options().dtype(dtype));
  if (gx.numel() == 0) return gx;
  constexpr int kWide = 8;
  const int vector = channels % kWide == 0 ? kWide : 1;
  const int64_t blocks = (channels / vector * ((tokens + kTokens - 1) / kTokens) + kThreads - 1) / kThreads;
  TORCH_CHECK(
      batch <= 65535 && blocks <= std::numeric_limits<int>::max() && channels <= std::numeric_limits<int>::max(),
      "token_mean_backward: the gradient is too large for CUDA: ", gx.sizes());
  AT_DISPATCH_REDUCED_FLOATING_TYPES(dtype, "token_mean_backward", [&] {
    const auto kernel =
        vector == 1 ? token_mean_backward_kernel<scalar_t, 1> : token_mean_backward_kernel<scalar_t, kWide>;
    launch_dependent(kernel, dim3(static_cast<unsigned>(blocks), static_cast<unsigned>(batch)), kThreads,
                     given.const_data_ptr<float>(), tokens, static_cast<int>(channels), share_of(tokens),
                     gx.mutable_data_ptr<scalar_t>());
  });
  return gx;
}

}  // namespace

TORCH_LIBRARY_IMPL(vrwkv, CUDA, m) {
  m.impl("token_mean", forward);
  m.impl("_token_mean_backward", backward);
}

}  // namespace vrwkv::ops::cuda
