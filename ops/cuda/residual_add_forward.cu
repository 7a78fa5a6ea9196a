#include <ATen/Functions.h>
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <torch/library.h>

#include "ops/cuda/dependent_launch.cuh"
#include "ops/cuda/residual_add_row.cuh"
#include "ops/residual_add_check.h"

namespace vrwkv::ops::cuda {
namespace {

/// Pointers to parts that are not there are null.
template <typename X, typename V>
struct ForwardArguments {
  int rows, tokens, channels;
  float inverse_channels, eps;
  Feed kind;
  const X* x;
  const V *value, *gate;
  const float *norm_weight, *norm_bias, *scale, *mask;
  X* y;
  V* feed;
  float* rstd;
};

/// Multiplies the row by [C] parameters, which padding reads as 0.
template <typename L>
__device__ __forceinline__ void multiply(float (&z)[L::kElements], const float* factors, const Place<L>& place) {
  RowOf<L, float> row;
  row.load(factors, place);
#pragma unroll
  for (int e = 0; e < L::kElements; ++e) z[e] *= row[e];
}

/// The second cache is for the feed, which the kernel behind this one reads; y waits for the next sum. Without a feed y
/// is what that kernel reads.
template <typename X, typename V, typename L>
__global__ void __launch_bounds__(kThreads) forward_kernel(const ForwardArguments<X, V> a) {
  const int64_t row = static_cast<int64_t>(gridDim.x - 1 - blockIdx.x) * L::kRowsPerBlock + threadIdx.x / L::kLanes;
  const Place<L> place(row, a.rows, a.channels);
  start_in_turn();
  RowOf<L, V> value, gate;
  RowOf<L, X> x;
  // All loads before the first use.
  value.template load<true>(a.value + place.offset, place);
  if (a.gate != nullptr) gate.template load<true>(a.gate + place.offset, place);
  if (a.x != nullptr) x.template load<true>(a.x + place.offset, place);

  float z[L::kElements];
#pragma unroll
  for (int e = 0; e < L::kElements; ++e) z[e] = value[e];
  if (a.gate != nullptr) {
#pragma unroll
    for (int e = 0; e < L::kElements; ++e) z[e] *= sigmoid(gate[e]);
  }
  if (a.norm_weight != nullptr) {
    standardize<L>(z, place, a.inverse_channels, a.eps);
    multiply<L>(z, a.norm_weight, place);
    RowOf<L, float> bias;
    bias.load(a.norm_bias, place);
#pragma unroll
    for (int e = 0; e < L::kElements; ++e) z[e] += bias[e];
  }
  if (a.scale != nullptr) multiply<L>(z, a.scale, place);
  if (a.mask != nullptr) {
    const float factor = place.channels > 0 ? a.mask[static_cast<int>(row) / a.tokens] : 0.0F;
#pragma unroll
    for (int e = 0; e < L::kElements; ++e) z[e] *= factor;
  }
  if (a.x != nullptr) {
#pragma unroll
    for (int e = 0; e < L::kElements; ++e) z[e] += x[e];
  }
  if (a.kind == Feed::none) {
    store<L>(a.y + place.offset, place, z);
    return;
  }
  store<L, true>(a.y + place.offset, place, z);
  if (a.kind == Feed::standardized) {
    const float rstd = standardize<L>(z, place, a.inverse_channels, a.eps);
    if (place.lane == 0 && place.channels > 0) a.rstd[row] = rstd;
  }
  store<L>(a.feed + place.offset, place, z);
}

using OptionalTensor = std::optional<at::Tensor>;

std::tuple<at::Tensor, at::Tensor, at::Tensor> forward(const OptionalTensor& x_in, const at::Tensor& value_in,
                                                       const OptionalTensor& gate_in,
                                                       const OptionalTensor& norm_weight_in,
                                                       const OptionalTensor& norm_bias_in,
                                                       const OptionalTensor& scale_in, const OptionalTensor& mask_in,
                                                       int64_t feed_in, double eps) {
  const ResidualBranch branch = residual_branch(value_in, gate_in, norm_weight_in, norm_bias_in, scale_in, mask_in);
  check_residual_add(part(x_in), branch, feed_in);
  const auto dtype = residual_add_dtype(part(x_in), branch);
  TORCH_CHECK(residual_add_is_fused(part(x_in), branch), "_residual_add_forward: no kernel for sums of ", dtype,
              " and ", value_in.sizes());
  const c10::cuda::CUDAGuard guard(value_in.device());
  const auto kind = static_cast<Feed>(feed_in);
  const at::Tensor x = contiguous_part(x_in), value = value_in.contiguous(), gate = contiguous_part(gate_in);
  const at::Tensor norm_weight = float_part(norm_weight_in), norm_bias = float_part(norm_bias_in);
  const at::Tensor scale = float_part(scale_in), mask = float_part(mask_in);
  const int64_t channels = value.size(2), rows = value.size(0) * value.size(1);
  const at::Tensor y = at::empty(value.sizes(), value.options().dtype(dtype));
  const at::Tensor feed = kind == Feed::none ? at::empty({0}, value.options()) : at::empty_like(value);
  const at::Tensor rstd = at::empty({kind == Feed::standardized ? rows : 0}, value.options().dtype(at::kFloat));
  if (y.numel() == 0) return {y, feed, rstd};

  const bool aligned = is_aligned({x, value, gate, norm_weight, norm_bias, scale, y, feed});
  with_dtypes(dtype, value.scalar_type(), [&](auto x_tag, auto value_tag) {
    using X = typename decltype(x_tag)::Type;
    using V = typename decltype(value_tag)::Type;
    const ForwardArguments<X, V> arguments{static_cast<int>(rows),
                                           static_cast<int>(value.size(1)),
                                           static_cast<int>(channels),
                                           1.0F / static_cast<float>(channels),
                                           static_cast<float>(eps),
                                           kind,
                                           pointer_to<X>(x),
                                           pointer_to<V>(value),
                                           pointer_to<V>(gate),
                                           pointer_to<float>(norm_weight),
                                           pointer_to<float>(norm_bias),
                                           pointer_to<float>(scale),
                                           pointer_to<float>(mask),
                                           mutable_pointer_to<X>(y),
                                           mutable_pointer_to<V>(feed),
                                           mutable_pointer_to<float>(rstd)};
    with_layout(channels, aligned, [&](auto layout) {
      using L = decltype(layout);
      const auto blocks = static_cast<unsigned int>((rows + L::kRowsPerBlock - 1) / L::kRowsPerBlock);
      // Wider rows follow products of our own. Early, S and B take 1 % more of a step; not early, T 0.3 %.
      launch(forward_kernel<X, V, L>, {blocks, kThreads, 0, /*early=*/channels <= 192}, arguments);
    });
  });
  return {y, feed, rstd};
}

/// Without gradients.
std::tuple<at::Tensor, at::Tensor> residual_add_cuda(const OptionalTensor& x, const at::Tensor& value,
                                                     const OptionalTensor& gate, const OptionalTensor& norm_weight,
                                                     const OptionalTensor& norm_bias, const OptionalTensor& scale,
                                                     const OptionalTensor& mask, int64_t feed, double eps) {
  const ResidualBranch branch = residual_branch(value, gate, norm_weight, norm_bias, scale, mask);
  check_residual_add(part(x), branch, feed);
  if (!residual_add_is_fused(part(x), branch)) return residual_add_composite(part(x), branch, feed, eps);
  const auto [y, fed, rstd] = forward(x, value, gate, norm_weight, norm_bias, scale, mask, feed, eps);
  return {y, fed};
}

}  // namespace

TORCH_LIBRARY_IMPL(vrwkv, CUDA, m) {
  m.impl("residual_add", residual_add_cuda);
  m.impl("_residual_add_forward", forward);
}

}  // namespace vrwkv::ops::cuda
