#include <ATen/Dispatch.h>
#include <ATen/cuda/CUDAContext.h>
#include <ATen/ops/empty_like.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <torch/library.h>

#include <limits>
#include <tuple>

#include "ops/add_places_check.h"
#include "ops/cuda/chunk.cuh"
#include "ops/cuda/column_sums.cuh"
#include "ops/cuda/dependent_launch.cuh"
#include "ops/cuda/sums_in_float.cuh"
#include "ops/cuda/vector.cuh"

namespace vrwkv::ops::cuda {
namespace {

constexpr int kThreads = 256, kVector = 8;
constexpr int kImages = 4;  ///< That a thread adds its places to, read together.

/// x, y: [batch, size], bias [channels], places [size]; blockIdx.y: kImages images.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    add_places_kernel(const T* __restrict__ x, const float* __restrict__ bias, const float* __restrict__ places,
                      int64_t batch, int64_t size, int64_t channels, T* __restrict__ y) {
  start_in_turn();
  const int64_t i = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * kVector;
  if (i >= size) return;
  const int64_t first = static_cast<int64_t>(blockIdx.y) * kImages;
  Chunk<T, kVector> read[kImages];
  // Those past the end read the last image, and are not written.
#pragma unroll
  for (int j = 0; j < kImages; ++j) read[j] = load_chunk<kVector>(x + min(first + j, batch - 1) * size + i);
  float added[kVector], bias_values[kVector];
  load_parameter(added, places + i, 0, 0.0F);
  load_parameter(bias_values, bias, static_cast<int>(i % channels), 0.0F);
#pragma unroll
  for (int c = 0; c < kVector; ++c) added[c] += bias_values[c];
#pragma unroll
  for (int j = 0; j < kImages; ++j) {
    if (first + j >= batch) break;
    float sums[kVector];
#pragma unroll
    for (int c = 0; c < kVector; ++c) sums[c] = read[j][c] + added[c];
    store_chunk<kVector>(y + (first + j) * size + i, sums);
  }
}

at::Tensor add_places(const at::Tensor& x, const at::Tensor& bias, const at::Tensor& places) {
  check_add_places(x, bias, places);
  if (!add_places_is_fused(x, bias, places)) return add_places_composite(x, bias, places);
  const c10::cuda::CUDAGuard guard(x.device());
  const at::Tensor tokens = aligned(x, kVector * x.element_size()), given_bias = aligned(bias, kParameterBytes),
                   given_places = aligned(places, kParameterBytes);
  at::Tensor y = at::empty_like(tokens);
  if (y.numel() == 0) return y;
  const int64_t batch = x.size(0), size = x.size(1) * x.size(2);
  const int64_t blocks = (size / kVector + kThreads - 1) / kThreads, images = (batch + kImages - 1) / kImages;
  TORCH_CHECK(blocks <= std::numeric_limits<int>::max() && images <= 65535,
              "add_places: x is too large for CUDA: ", x.sizes());
  AT_DISPATCH_REDUCED_FLOATING_TYPES(x.scalar_type(), "add_places", [&] {
    launch_dependent(add_places_kernel<scalar_t>, dim3(static_cast<unsigned>(blocks), static_cast<unsigned>(images)),
                     kThreads, tokens.const_data_ptr<scalar_t>(), given_bias.const_data_ptr<float>(),
                     given_places.const_data_ptr<float>(), batch, size, x.size(2), y.mutable_data_ptr<scalar_t>());
  });
  return y;
}

std::tuple<at::Tensor, at::Tensor> backward(const at::Tensor& gy) {
  TORCH_CHECK(gy.dim() == 3, "add_places_backward: gy must be [B, T, C], got ", gy.sizes());
  const at::Tensor gplaces = sums_in_float(gy.contiguous(), 0);
  return {column_sums(gplaces, 0), gplaces.unsqueeze(0)};
}

}  // namespace

TORCH_LIBRARY_IMPL(vrwkv, CUDA, m) {
  m.impl("add_places", add_places);
  m.impl("_add_places_backward", backward);
}

}  // namespace vrwkv::ops::cuda
