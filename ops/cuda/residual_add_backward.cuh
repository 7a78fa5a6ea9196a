#pragma once

#include "ops/cuda/column_sums.cuh"
#include "ops/cuda/residual_add_row.cuh"
#include "ops/cuda/residual_parameters.cuh"

// Device side of residual_add's gradient. One pass over the rows; a lane sums the parts of its channels' parameter
// gradients over all rows that it meets, a block then adds the sums of its lanes, and parameter_gradient_kernel those
// of the blocks. Every sum has a fixed order.

namespace vrwkv::ops::cuda {

/// Pointers to parts that are not there and to gradients that are not needed are null.
template <typename X, typename V>
struct BackwardArguments {
  int rows, tokens, channels;
  float inverse_channels, eps;
  const X* gy;
  const V *gfeed, *value, *gate;
  const float *norm_weight, *scale, *mask;
  const V* fed;       ///< The standardized feed, null if the feed is the cast sum.
  const float* rstd;  ///< With fed.
  X* gx;
  V *gvalue, *ggate;
  float* parts;  ///< [2, blocks, channels]: sums over the block's rows of g z and of g.
};

/// Blocks that a multiprocessor runs at once: as many as leave a thread the registers that it needs without spills.
template <typename L, typename V>
constexpr int kBlocksAtOnce = L::kElements > 24   ? 2
                              : L::kElements > 12 ? (sizeof(V) == 2 ? 3 : 2)
                                                  : (sizeof(V) == 2 ? 5 : 4);

/// The gradient of the standardized row `hat` from that of its result: rstd (g - mean(g) - hat mean(g hat)).
template <typename L>
__device__ __forceinline__ void standardize_backward(float (&g)[L::kElements], const float (&hat)[L::kElements],
                                                     float rstd, float inverse_channels) {
  float sum = 0.0F, product = 0.0F;
#pragma unroll
  for (int e = 0; e < L::kElements; ++e) {
    sum += g[e];
    product += g[e] * hat[e];
  }
  const float mean = sum_over_lanes<L>(sum) * inverse_channels;
  const float mean_product = sum_over_lanes<L>(product) * inverse_channels;
#pragma unroll
  for (int e = 0; e < L::kElements; ++e) g[e] = standardized_gradient(g[e], hat[e], rstd, mean, mean_product);
}

/// A block's sums per channel over its rows, in shared memory: in registers they would take those that keep loads in
/// flight. Every lane adds to places of its own.
template <typename L>
struct ChannelSums {
  Chunk<float, L::kWidth> lanes[L::kRowsPerBlock][L::kChunks][L::kLanes];

  __device__ __forceinline__ void add(const float (&terms)[L::kElements]) { update(terms, true); }
  __device__ __forceinline__ void clear() {
    const float zeros[L::kElements] = {};
    update(zeros, false);
  }

  /// Writes the sums over the lanes, [channels]. Called by all threads of the block behind a barrier.
  __device__ __forceinline__ void write(int channels, float* __restrict__ part) const {
    for (int c = static_cast<int>(threadIdx.x); c < channels; c += kThreads) {
      float sum = 0.0F;
#pragma unroll
      for (int i = 0; i < L::kRowsPerBlock; ++i) sum += reinterpret_cast<const float*>(lanes[i])[c];
      part[c] = sum;
    }
  }

 private:
  __device__ __forceinline__ void update(const float (&terms)[L::kElements], bool adds) {
    auto& own = lanes[threadIdx.x / L::kLanes];
#pragma unroll
    for (int j = 0; j < L::kChunks; ++j) {
      auto& chunk = own[j][threadIdx.x % L::kLanes];
      float sums[L::kWidth];
#pragma unroll
      for (int i = 0; i < L::kWidth; ++i) sums[i] = (adds ? chunk[i] : 0.0F) + terms[j * L::kWidth + i];
      chunk = Chunk<float, L::kWidth>::rounded(sums);
    }
  }
};

/// gx, gvalue, ggate, and with kParameters (the branch has a norm or a scale) the parts of the parameter gradients.
/// Blocks take rows in turn; any number of blocks does, the parts' order of summation depends on it.
template <typename X, typename V, typename L, bool kParameters>
__global__ void __launch_bounds__(kThreads, kBlocksAtOnce<L, V>) backward_kernel(const BackwardArguments<X, V> a) {
  [[maybe_unused]] __shared__ ChannelSums<L> sums_gz, sums_g;
  if constexpr (kParameters) {
    sums_gz.clear();
    sums_g.clear();
  }
  start_in_turn();
  // The block's lanes stay together, as the sums over the lanes of a warp demand.
  for (int64_t turn = (a.rows - 1) / L::kRowsPerBlock - static_cast<int64_t>(blockIdx.x); turn >= 0;
       turn -= gridDim.x) {
    const int64_t first = turn * L::kRowsPerBlock;
    const int64_t row = first + threadIdx.x / L::kLanes;
    const Place<L> place(row, a.rows, a.channels);
    const bool active = place.channels > 0;
    RowOf<L, V> gfeed, fed, value, gate;
    // gy comes later: its registers would be one set too many.
    if (a.gfeed != nullptr) gfeed.load(a.gfeed + place.offset, place);
    if (a.fed != nullptr) fed.load(a.fed + place.offset, place);
    if (a.value != nullptr) value.load(a.value + place.offset, place);
    if (a.gate != nullptr) gate.load(a.gate + place.offset, place);
    const float rstd = a.fed != nullptr && active ? a.rstd[row] : 0.0F;
    const float mask = a.mask != nullptr && active ? a.mask[static_cast<int>(row) / a.tokens] : 1.0F;

    float g[L::kElements];  // of the sum, then of ever earlier steps of the branch
#pragma unroll
    for (int e = 0; e < L::kElements; ++e) g[e] = a.gfeed != nullptr ? gfeed[e] : 0.0F;
    if (a.fed != nullptr) {
      float hat[L::kElements];
#pragma unroll
      for (int e = 0; e < L::kElements; ++e) hat[e] = fed[e];
      standardize_backward<L>(g, hat, rstd, a.inverse_channels);
    }
    if (a.gy != nullptr) {
      RowOf<L, X> gy;
      gy.load(a.gy + place.offset, place);
#pragma unroll
      for (int e = 0; e < L::kElements; ++e) g[e] += gy[e];
    }
    if (a.gx != nullptr) store<L>(a.gx + place.offset, place, g);

#pragma unroll
    for (int e = 0; e < L::kElements; ++e) g[e] *= mask;
    if constexpr (kParameters) {
      float z[L::kElements];  // standardized where there is a norm
#pragma unroll
      for (int e = 0; e < L::kElements; ++e) z[e] = value[e];
      if (a.gate != nullptr) {
#pragma unroll
        for (int e = 0; e < L::kElements; ++e) z[e] *= sigmoid(gate[e]);
      }
      float z_rstd = 0.0F;
      if (a.norm_weight != nullptr) z_rstd = standardize<L>(z, place, a.inverse_channels, a.eps);
      float gz[L::kElements];
#pragma unroll
      for (int e = 0; e < L::kElements; ++e) gz[e] = g[e] * z[e];
      sums_gz.add(gz);
      sums_g.add(g);
      for (const float* factors : {a.scale, a.norm_weight}) {
        if (factors == nullptr) continue;
        RowOf<L, float> factor;
        factor.load(factors, place);
#pragma unroll
        for (int e = 0; e < L::kElements; ++e) g[e] *= factor[e];
      }
      if (a.norm_weight != nullptr) standardize_backward<L>(g, z, z_rstd, a.inverse_channels);
    }
    if (a.gate != nullptr) {
      float ggate[L::kElements];
#pragma unroll
      for (int e = 0; e < L::kElements; ++e) {
        const float s = sigmoid(gate[e]);
        ggate[e] = g[e] * value[e] * s * (1.0F - s);
        g[e] *= s;
      }
      if (a.ggate != nullptr) store<L>(a.ggate + place.offset, place, ggate);
    }
    if (a.gvalue != nullptr) store<L>(a.gvalue + place.offset, place, g);
  }
  if constexpr (kParameters) {
    __syncthreads();
    sums_gz.write(a.channels, a.parts + static_cast<int64_t>(blockIdx.x) * a.channels);
    sums_g.write(a.channels, a.parts + (static_cast<int64_t>(gridDim.x) + blockIdx.x) * a.channels);
  }
}

/// The parameter gradients from the parts of backward_kernel's blocks.
__global__ void __launch_bounds__(kSumThreads)
    parameter_gradient_kernel(const float* __restrict__ parts, int blocks, int channels, BranchParameters parameters) {
  start_in_turn();
  float sums[2];
  if (sum_rows(parts, blocks, channels, sums)) parameters.write(sum_column(), sums[0], sums[1]);
}

}  // namespace vrwkv::ops::cuda
