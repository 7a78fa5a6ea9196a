#pragma once

#include <cstdint>

#include "ops/bi_wkv6_head.h"
#include "ops/cuda/sigmoid.cuh"
#include "ops/cuda/vector.cuh"

// A row is one head of one token: kHead channels, which lie next to each other, as do the rows. A few lanes of a warp
// have a row, each one vector of it; blocks take rows in turn. As the blocks' rows together are whole tokens, a lane
// has the same channels every time, so that it keeps their parameters and sums in registers.

namespace vrwkv::ops::cuda::head_norm {

constexpr int kHead = static_cast<int>(kBiWkv6HeadSize);
constexpr int kThreads = 256;

template <typename In>
inline constexpr int kVector = 16 / static_cast<int>(sizeof(In));
template <typename In>
inline constexpr int kLanes = kHead / kVector<In>;
template <typename In>
inline constexpr int kRows = kThreads / kLanes<In>;  ///< Of a block at a time.

/// `parameters` [heads * kHead], of type T.
template <typename T, typename In>
struct Inputs {
  const In *y, *gate;
  const T *weight, *bias;
  int64_t rows;
  int heads;
  T eps;
};

/// What a thread works on: rows `first`, `first + stride`, ...
template <typename In>
struct Place {
  int row, lane;  ///< Within the block and the row.
  int64_t first, stride;
  int channel;  ///< First of the thread's channels, among all.

  __device__ explicit Place(int heads)
      : row(static_cast<int>(threadIdx.x) / kLanes<In>),
        lane(static_cast<int>(threadIdx.x) % kLanes<In>),
        first(static_cast<int64_t>(blockIdx.x) * kRows<In> + row),
        stride(static_cast<int64_t>(gridDim.x) * kRows<In>),
        channel(static_cast<int>(first % heads) * kHead + lane * kVector<In>) {}

  __device__ int64_t element(int64_t at) const { return at * kHead + lane * kVector<In>; }

  /// The mean over the row of the sum of all lanes' `value`, the same bits in each of them.
  template <typename T>
  __device__ T mean(T value) const {
    // The lanes of other rows of the warp may have ended.
    constexpr unsigned kAll = 0xffffffffU >> (32 - kLanes<In>);
    const unsigned mask = kAll << (threadIdx.x % 32 / kLanes<In> * kLanes<In>);
#pragma unroll
    for (int offset = kLanes<In> / 2; offset > 0; offset /= 2) value += __shfl_xor_sync(mask, value, offset);
    return value * (T(1) / T(kHead));
  }
};

/// values = (vector - mean) / sqrt(variance + eps); returns 1 / sqrt(variance + eps).
template <typename T, typename In>
__device__ __forceinline__ T standardize(T (&values)[kVector<In>], const Vector<In, kVector<In>>& vector,
                                         const Place<In>& place, T eps) {
  T sum = T(0);
#pragma unroll
  for (int c = 0; c < kVector<In>; ++c) {
    values[c] = static_cast<T>(vector.values[c]);
    sum += values[c];
  }
  const T mean = place.mean(sum);
  T squares = T(0);
#pragma unroll
  for (int c = 0; c < kVector<In>; ++c) {
    values[c] -= mean;
    squares += values[c] * values[c];
  }
  const T rstd = T(1) / ::sqrt(place.mean(squares) + eps);
#pragma unroll
  for (int c = 0; c < kVector<In>; ++c) values[c] *= rstd;
  return rstd;
}

template <typename T, typename In>
__global__ void __launch_bounds__(kThreads)
    forward_kernel(const __grid_constant__ Inputs<T, In> inputs, In* __restrict__ out) {
  const Place<In> place(inputs.heads);
  T weight[kVector<In>], bias[kVector<In>];
  load_parameter(weight, inputs.weight, place.channel, T(1));
  load_parameter(bias, inputs.bias, place.channel, T(0));
  for (int64_t row = place.first; row < inputs.rows; row += place.stride) {
    const int64_t at = place.element(row);
    const auto y = load_vector<kVector<In>>(inputs.y + at), gate = load_vector<kVector<In>>(inputs.gate + at);
    T standard[kVector<In>];
    standardize<T, In>(standard, y, place, inputs.eps);
    Vector<In, kVector<In>> result;
#pragma unroll
    for (int c = 0; c < kVector<In>; ++c) {
      const T g = static_cast<T>(gate.values[c]);
      result.values[c] = static_cast<In>((standard[c] * weight[c] + bias[c]) * g * sigmoid(g));
    }
    store_vector(out + at, result);
  }
}

/// gy, ggate, and the block's sums of the gradients of weight and bias, [blocks, 2, C] in `parts`.
template <typename T, typename In>
__global__ void __launch_bounds__(kThreads)
    backward_kernel(const __grid_constant__ Inputs<T, In> inputs, const In* __restrict__ outer, In* __restrict__ gy,
                    In* __restrict__ ggate, T* __restrict__ parts) {
  const Place<In> place(inputs.heads);
  T weight[kVector<In>], bias[kVector<In>], gweight[kVector<In>] = {}, gbias[kVector<In>] = {};
  load_parameter(weight, inputs.weight, place.channel, T(1));
  load_parameter(bias, inputs.bias, place.channel, T(0));
  for (int64_t row = place.first; row < inputs.rows; row += place.stride) {
    const int64_t at = place.element(row);
    const auto y = load_vector<kVector<In>>(inputs.y + at), gate = load_vector<kVector<In>>(inputs.gate + at);
    const auto gradient = load_vector<kVector<In>>(outer + at);
    T standard[kVector<In>], gstandard[kVector<In>];
    const T rstd = standardize<T, In>(standard, y, place, inputs.eps);
    T sum = T(0), product = T(0);
    Vector<In, kVector<In>> result;
#pragma unroll
    for (int c = 0; c < kVector<In>; ++c) {
      const T g = static_cast<T>(gate.values[c]), s = sigmoid(g), gout = static_cast<T>(gradient.values[c]);
      const T normed = standard[c] * weight[c] + bias[c];
      result.values[c] = static_cast<In>(gout * normed * s * (T(1) + g * (T(1) - s)));
      const T gnormed = gout * g * s;
      gweight[c] += gnormed * standard[c];
      gbias[c] += gnormed;
      gstandard[c] = gnormed * weight[c];
      sum += gstandard[c];
      product += gstandard[c] * standard[c];
    }
    store_vector(ggate + at, result);
    const T mean = place.mean(sum), slope = place.mean(product);
#pragma unroll
    for (int c = 0; c < kVector<In>; ++c) {
      result.values[c] = static_cast<In>(rstd * (gstandard[c] - mean - standard[c] * slope));
    }
    store_vector(gy + at, result);
  }

  // Over the block's rows of each head, in their order; none where the block has no row of a head.
  __shared__ T sums[2][kRows<In>][kHead];
#pragma unroll
  for (int c = 0; c < kVector<In>; ++c) {
    sums[0][place.row][place.lane * kVector<In> + c] = gweight[c];
    sums[1][place.row][place.lane * kVector<In> + c] = gbias[c];
  }
  __syncthreads();
  const int channels = inputs.heads * kHead;
  const auto first_head = static_cast<int>(static_cast<int64_t>(blockIdx.x) * kRows<In> % inputs.heads);
  for (int i = static_cast<int>(threadIdx.x); i < 2 * channels; i += kThreads) {
    const int which = i / channels, channel = i % channels;
    const int behind = channel / kHead - first_head;
    T sum = T(0);
    for (int row = behind < 0 ? behind + inputs.heads : behind; row < kRows<In>; row += inputs.heads) {
      sum += sums[which][row][channel % kHead];
    }
    parts[static_cast<int64_t>(blockIdx.x) * 2 * channels + i] = sum;
  }
}

}  // namespace vrwkv::ops::cuda::head_norm
