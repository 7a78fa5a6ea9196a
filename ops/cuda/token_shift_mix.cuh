#pragma once

#include <ATen/cuda/detail/IntegerDivider.cuh>

#include "ops/cuda/chunk.cuh"
#include "ops/cuda/dependent_launch.cuh"
#include "ops/cuda/vector.cuh"
#include "ops/token_shift_check.h"

namespace vrwkv::ops::cuda {

constexpr int kThreads = 256;
constexpr int kMixUnroll = 2;  ///< Tokens of a thread whose loads are under way together.

/// Every thread has kVector consecutive channels of one quarter of a group, numbered by threadIdx.x and blockIdx.y.
/// The rows of all blocks (threadIdx.y) take the tokens of all images in turn, so that what is read and written at a
/// time lies together.
struct MixShape {
  using Divider = at::cuda::detail::IntDivider<unsigned>;  ///< A division by the same number takes three instructions.

  int batch, height, width, channels;
  int group;           ///< Channels that are shifted by quarters of their own.
  Divider row, image;  ///< By the tokens of each.

  __device__ unsigned tokens() const { return static_cast<unsigned>(batch) * image.divisor; }
};

/// The first channel of a thread.
__device__ __forceinline__ int thread_channel(int vector) {
  return (static_cast<int>(blockIdx.y) * static_cast<int>(blockDim.x) + static_cast<int>(threadIdx.x)) * vector;
}

/// x and the parameters, of which weight and bias may be null.
template <typename T, typename In>
struct MixInputs {
  const In* x;
  const T* mixes[kMaxMixes];
  const T *weight, *bias;
};

template <typename In>
struct MixOutputs {
  In* out[kMaxMixes];
};

/// Where a thread's channels, from `first` on, read: `step` tokens away, if the token is not at the edge in that
/// direction.
class MixChannels {
 public:
  int first;
  bool exist;
  bool in_rows;         ///< Or within columns.
  bool reads_backward;  ///< From the left, or from above.
  int step;

  __device__ __forceinline__ MixChannels(const MixShape& shape, int first) : first(first) {
    exist = first < shape.channels;
    const auto bound = [&](int64_t q) { return static_cast<int>(static_cast<int64_t>(shape.group) * q / 4); };
    const int within = first < shape.group ? first : first % shape.group;
    const int quarter = (within >= bound(1)) + (within >= bound(2)) + (within >= bound(3));
    in_rows = quarter < 2;
    reads_backward = quarter % 2 == 0;
    period_ = in_rows ? shape.row : shape.image;
    unit_ = in_rows ? 1U : shape.row.divisor;
    step = (reads_backward ? -1 : 1) * static_cast<int>(unit_);
  }

  /// Whether token `token` of all images reads another one.
  __device__ __forceinline__ bool reads(unsigned token) const { return within(token, reads_backward ? unit_ : 0U); }

  /// Whether it is read by another one.
  __device__ __forceinline__ bool is_read(unsigned token) const { return within(token, reads_backward ? 0U : unit_); }

 private:
  /// Whether the token's place in its row or image is one from `low` on of which an edge's tokens are left out.
  __device__ __forceinline__ bool within(unsigned token, unsigned low) const {
    return period_.mod(token) - low < period_.divisor - unit_;
  }

  MixShape::Divider period_;
  unsigned unit_;
};

template <typename T, typename In, int kVector, int kMixes>
__global__ void __launch_bounds__(kThreads, 2)
    mix_kernel(const __grid_constant__ MixShape shape, const __grid_constant__ MixInputs<T, In> inputs,
               const __grid_constant__ MixOutputs<In> outputs) {
  constexpr int kUnroll = kMixUnroll;
  const MixChannels channels(shape, thread_channel(kVector));
  start_in_turn();
  if (!channels.exist) return;
  T mixes[kMixes][kVector], weight[kVector], bias[kVector];
#pragma unroll
  for (int j = 0; j < kMixes; ++j) load_parameter(mixes[j], inputs.mixes[j], channels.first, T(0));
  load_parameter(weight, inputs.weight, channels.first, T(1));
  load_parameter(bias, inputs.bias, channels.first, T(0));

  const unsigned rows = blockDim.y, tokens = shape.tokens();
  const int64_t step = static_cast<int64_t>(channels.step) * shape.channels;
  for (unsigned first = blockIdx.x * kUnroll * rows + threadIdx.y; first < tokens;
       first += gridDim.x * kUnroll * rows) {
    Chunk<In, kVector> x[kUnroll], neighbour[kUnroll];
    bool reads[kUnroll];
#pragma unroll
    for (int i = 0; i < kUnroll; ++i) {
      const unsigned token = first + i * rows;
      reads[i] = token < tokens && channels.reads(token);
      const In* from = inputs.x + static_cast<int64_t>(token) * shape.channels + channels.first;
      if (token < tokens) x[i] = load_chunk<kVector>(from);
      if (reads[i]) neighbour[i] = load_chunk<kVector>(from + step);
    }
#pragma unroll
    for (int i = 0; i < kUnroll; ++i) {
      const unsigned token = first + i * rows;
      if (token >= tokens) break;
      T n[kVector], shifted[kVector];
#pragma unroll
      for (int c = 0; c < kVector; ++c) {
        n[c] = x[i][c] * weight[c] + bias[c];
        shifted[c] = reads[i] ? neighbour[i][c] * weight[c] + bias[c] : T(0);
      }
#pragma unroll
      for (int j = 0; j < kMixes; ++j) {
        T out[kVector];
#pragma unroll
        for (int c = 0; c < kVector; ++c) out[c] = mixes[j][c] * n[c] + (T(1) - mixes[j][c]) * shifted[c];
        store_chunk<kVector>(outputs.out[j] + static_cast<int64_t>(token) * shape.channels + channels.first, out);
      }
    }
  }
}

/// Bytes of shared memory that a thread needs for write_sums().
template <typename T, int kSums, int kVector>
constexpr size_t kSumBytes = sizeof(T) * kSums * kVector;

/// The threads of a block as rows of `lanes` that write_sums() adds up, and this one among all of the block.
struct SumRows {
  int lanes, rows, thread, threads;

  __device__ __forceinline__ static SumRows of_block() {
    const int lanes = static_cast<int>(blockDim.x), rows = static_cast<int>(blockDim.y);
    return {lanes, rows, static_cast<int>(threadIdx.y) * lanes + static_cast<int>(threadIdx.x), lanes * rows};
  }
};

/// Sums over the block's rows, in their order, what each thread has for `row` and for its channels from `channel` on,
/// to [kSums, blocks, channels] in `parts`; threads behind the last row have nothing. All threads of the block call it;
/// nothing else uses the dynamic shared memory any more.
template <typename T, int kSums, int kVector>
__device__ __forceinline__ void write_sums(const MixShape& shape, const SumRows& in, int row, int channel,
                                           const T (&sums)[kSums][kVector], T* __restrict__ parts) {
  extern __shared__ __align__(16) char memory[];
  T* const shared = reinterpret_cast<T*>(memory);
  const int columns = in.lanes * kVector, first = static_cast<int>(blockIdx.y) * columns;
  __syncthreads();
  if (row < in.rows) {
#pragma unroll
    for (int j = 0; j < kSums; ++j) {
      Vector<T, kVector> own;
#pragma unroll
      for (int c = 0; c < kVector; ++c) own.values[c] = sums[j][c];
      store_vector(shared + (row * kSums + j) * columns + channel - first, own);
    }
  }
  __syncthreads();
  for (int i = in.thread; i < kSums * columns; i += in.threads) {
    T sum = T(0);
    for (int r = 0; r < in.rows; ++r) sum += shared[r * kSums * columns + i];
    const int j = i / columns, at = first + i - j * columns;
    if (at < shape.channels) {
      parts[(int64_t{j} * gridDim.x + blockIdx.x) * shape.channels + at] = sum;
    }
  }
}

}  // namespace vrwkv::ops::cuda
