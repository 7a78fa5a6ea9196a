#pragma once

#include "ops/cuda/dependent_launch.cuh"
#include "ops/cuda/hopper/correlation_kernel.cuh"

// The gradients of token_shift_linear's parameters from its correlations. With n = x w + b, the layer norm's,
//   out_i = (n m_i + shift(n) (1 - m_i)) W_i^T
// W_i's is m_i S_i + (1 - m_i) R_i, where S_i = w (G_i^T x) + b sum(G_i) is that with n alone, R_i the same with
// shift(n); m_i's is the sum over W_i's rows of W_i (S_i - R_i), and likewise those of w and b.

namespace vrwkv::ops::cuda::hopper {

/// The parameters; m_i and W_i [C, C] in float32, w and b null where there is no norm.
struct ShiftLinearParameters {
  const float* mixes[kGradients];
  const float* weights[kGradients];
  const float *weight, *bias;
};

constexpr int kRowsOfBlock = 4;               ///< Of W_i, in parameter_gradients_kernel.
constexpr int kColumnVectors = kColumns / 4;  ///< That a thread adds up, of a row.
constexpr int kParameterThreads = 2 * kRowsOfBlock * kColumnVectors;
constexpr int kParameterSums = kGradients + 2;  ///< Of each mix, of w and of b.
constexpr int kParameterBlocks = kGradients * kChannels / kRowsOfBlock;

struct ParameterGradients {
  ShiftLinearParameters parameters;
  const float* parts;  ///< [count, kCorrelations, C, kColumns]
  int count;
  float* gweights[kGradients];
  float* sums;  ///< [kParameterBlocks, kParameterSums, C], of which a block leaves what its rows add.
};

/// The gradients of W_i, and each block's share of the others. Adds up the correlations' parts first, in their order.
__global__ void __launch_bounds__(kParameterThreads, 1)
    parameter_gradients_kernel(const __grid_constant__ ParameterGradients arguments) {
  constexpr int kAhead = 12;  // Parts whose loads are under way together.
  __shared__ Vector<float, 4> correlations[2][kRowsOfBlock][kColumnVectors];
  const ShiftLinearParameters& parameters = arguments.parameters;
  start_in_turn();
  const int thread = static_cast<int>(threadIdx.x);
  const int first_row = static_cast<int>(blockIdx.x) * kRowsOfBlock, i = first_row / kChannels;
  {
    const int vector = thread % kColumnVectors, row = thread / kColumnVectors % kRowsOfBlock;
    const int shifts = thread / (kColumnVectors * kRowsOfBlock);
    const int matrix = 2 * i + shifts;
    const float* const from =
        arguments.parts + (matrix * kChannels + first_row % kChannels + row) * kColumns + 4 * vector;
    Vector<float, 4> sum{};
#pragma unroll 1
    for (int part = 0; part < arguments.count; part += kAhead) {
      Vector<float, 4> ahead[kAhead];
#pragma unroll
      for (int k = 0; k < kAhead; ++k) {  // Those past the end read the last one, and are not added.
        const int64_t at = int64_t{min(part + k, arguments.count - 1)} * (kCorrelations * kChannels * kColumns);
        ahead[k] = load_vector<4>(from + at);
      }
#pragma unroll
      for (int k = 0; k < kAhead; ++k) {
#pragma unroll
        for (int c = 0; c < 4; ++c) sum.values[c] += part + k < arguments.count ? ahead[k].values[c] : 0.0F;
      }
    }
    correlations[shifts][row][vector] = sum;
  }
  __syncthreads();
  if (thread >= kChannels) return;
  const int c = thread, quarter = c / (kChannels / 4);
  const float m = parameters.mixes[i][c];
  const float w = parameters.weight == nullptr ? 1.0F : parameters.weight[c];
  const float b = parameters.bias == nullptr ? 0.0F : parameters.bias[c];
  float of_mix = 0.0F, of_weight = 0.0F, of_bias = 0.0F;
#pragma unroll
  for (int row = 0; row < kRowsOfBlock; ++row) {
    const float* const with_own = reinterpret_cast<const float*>(correlations[0][row]);
    const float* const with_shift = reinterpret_cast<const float*>(correlations[1][row]);
    const int at = (first_row % kChannels + row) * kChannels + c;
    const float own = with_own[c], shifted = with_shift[c];
    const float all = with_own[kAllColumn], within = with_shift[kNeighbourColumn + quarter];
    const float of_own = w * own + b * all, of_shifted = w * shifted + b * within;
    const float linear = parameters.weights[i][at];
    arguments.gweights[i][at] = m * of_own + (1.0F - m) * of_shifted;
    of_mix += linear * (of_own - of_shifted);
    of_weight += linear * (m * own + (1.0F - m) * shifted);
    of_bias += linear * (m * all + (1.0F - m) * within);
  }
  float* const to = arguments.sums + static_cast<int64_t>(blockIdx.x) * kParameterSums * kChannels + c;
#pragma unroll
  for (int j = 0; j < kGradients; ++j) to[j * kChannels] = j == i ? of_mix : 0.0F;
  to[kGradients * kChannels] = of_weight;
  to[(kGradients + 1) * kChannels] = of_bias;
}

}  // namespace vrwkv::ops::cuda::hopper
