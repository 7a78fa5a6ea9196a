#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAGuard.h>
#include <torch/library.h>

#include <tuple>

#include "ops/cuda/dependent_launch.cuh"
#include "ops/cuda/gradient_factors.cuh"
#include "ops/cuda/tensor_lists.cuh"
#include "ops/cuda/vector.cuh"

namespace vrwkv::ops::cuda {
namespace {

constexpr int kVector = 4, kPieces = 4, kTile = kPieces * kVector * kListThreads, kWarp = 32;
constexpr int kEndThreads = 1024;
constexpr float kNormFloor = 1e-6F;  ///< As in torch.nn.utils.clip_grad_norm_.

/// The sum over a block of up to 1,024 threads, in its first thread.
template <typename T>
__device__ __forceinline__ T block_sum(T sum) {
  __shared__ T of_warps[kWarp];
  const int warp = static_cast<int>(threadIdx.x) / kWarp, lane = static_cast<int>(threadIdx.x) % kWarp;
  for (int offset = kWarp / 2; offset > 0; offset /= 2) sum += __shfl_xor_sync(0xffffffffU, sum, offset);
  if (lane == 0) of_warps[warp] = sum;
  __syncthreads();
  sum = lane < static_cast<int>(blockDim.x) / kWarp ? of_warps[lane] : T(0);
  for (int offset = kWarp / 2; offset > 0; offset /= 2) sum += __shfl_xor_sync(0xffffffffU, sum, offset);
  return sum;
}

/// Each block's sum of squares.
__global__ void __launch_bounds__(kListThreads)
    squares_kernel(const __grid_constant__ TensorLists<1> lists, GradientFactors factors, float* __restrict__ sums) {
  start_in_turn();
  const float first_factor = factors.get(0), second_factor = factors.get(1);
  float sum = 0;
  const auto add = [&](float gradient) {
    const float g = gradient * first_factor * second_factor;
    sum += g * g;
  };
  for_each_tile<kTile>(lists, [&](int tensor, int64_t first) {
    const float* const gradient = static_cast<const float*>(lists.data[0][tensor]) + first;
    const int64_t left = lists.sizes[tensor] - first;
    if (left >= kTile && lists.is_aligned(tensor)) {
      Vector<float, kVector> g[kPieces];
#pragma unroll
      for (int j = 0; j < kPieces; ++j)
        g[j] = load_vector<kVector>(gradient + (j * kListThreads + threadIdx.x) * kVector);
#pragma unroll
      for (int j = 0; j < kPieces; ++j) {
#pragma unroll
        for (int c = 0; c < kVector; ++c) add(g[j].values[c]);
      }
    } else {
      const int end = static_cast<int>(min(left, static_cast<int64_t>(kTile)));
      for (int i = static_cast<int>(threadIdx.x); i < end; i += kListThreads) add(gradient[i]);
    }
  });
  sum = block_sum(sum);
  if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

__global__ void __launch_bounds__(kEndThreads)
    norm_kernel(const float* __restrict__ sums, int count, float max_norm, float* norm, float* coefficient) {
  start_in_turn();
  double sum = 0;
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kEndThreads) sum += sums[i];
  sum = block_sum(sum);
  if (threadIdx.x != 0) return;
  *norm = static_cast<float>(sqrt(sum));
  const float ratio = max_norm / (*norm + kNormFloor);
  *coefficient = ratio > 1 ? 1 : ratio;  // A NaN is not > 1.
}

std::tuple<at::Tensor, at::Tensor> gradient_norm(at::TensorList gradients, at::TensorList factors, double max_norm) {
  TORCH_CHECK(!gradients.empty(), "gradient_norm: there are no gradients");
  const at::Device device = gradients[0].device();
  std::vector<at::Tensor> all;
  for (const at::Tensor& gradient : gradients) {
    TORCH_CHECK(gradient.scalar_type() == at::kFloat && gradient.is_contiguous() && gradient.device() == device,
                "gradient_norm: gradients must be contiguous, float32 and on ", device, ", got ",
                gradient.scalar_type(), " on ", gradient.device(), " with strides ", gradient.strides());
    all.push_back(gradient);
  }
  const GradientFactors read = gradient_factors("gradient_norm", factors, device);
  const c10::cuda::CUDAGuard guard(device);
  const int most = resident_blocks(squares_kernel);
  const int64_t launches = static_cast<int64_t>((all.size() + TensorLists<1>::kMost - 1) / TensorLists<1>::kMost);
  const auto options = gradients[0].options();
  at::Tensor sums = at::empty({launches * most}, options), norm = at::empty({}, options),
             coefficient = at::empty({}, options);
  auto* const place = sums.mutable_data_ptr<float>();
  int count = 0;
  for_each_launch<kTile, 1>({all}, most, [&](const TensorLists<1>& lists, int blocks) {
    launch_dependent(squares_kernel, static_cast<unsigned>(blocks), kListThreads, lists, read, place + count);
    count += blocks;
  });
  launch_dependent(norm_kernel, 1, kEndThreads, place, count, static_cast<float>(max_norm),
                   norm.mutable_data_ptr<float>(), coefficient.mutable_data_ptr<float>());
  return {norm, coefficient};
}

}  // namespace

TORCH_LIBRARY_IMPL(vrwkv, CUDA, m) { m.impl("_gradient_norm", gradient_norm); }

}  // namespace vrwkv::ops::cuda
