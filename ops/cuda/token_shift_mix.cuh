#pragma once

#include "ops/cuda/chunk.cuh"
#include "ops/cuda/vector.cuh"
#include "ops/token_shift_check.h"

namespace vrwkv::ops::cuda {

constexpr int kThreads = 256;

/// Every thread has kVector consecutive channels of one quarter of a group, numbered by threadIdx.x and blockIdx.y. The
/// tokens of each image are divided into strips; a block takes one strip after the other, gridDim.x apart, and its rows
/// (threadIdx.y) the strip's tokens in turn.
struct MixShape {
  int batch, height, width, channels;
  int group;          ///< Channels that are shifted by quarters of their own.
  int strips, strip;  ///< Strips of an image, and the tokens of one.

  __device__ unsigned all_strips() const { return static_cast<unsigned>(batch) * static_cast<unsigned>(strips); }
};

/// The tokens of one strip.
struct Strip {
  int begin, end;
  int64_t image;
  __device__ Strip(const MixShape& shape, unsigned index) {
    const unsigned in_batch = index / static_cast<unsigned>(shape.strips);
    image = in_batch;
    begin = static_cast<int>(index - in_batch * static_cast<unsigned>(shape.strips)) * shape.strip;
    const int tokens = shape.height * shape.width;
    end = begin + shape.strip < tokens ? begin + shape.strip : tokens;
  }
};

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

/// Where a thread's channels read: `step` tokens away, if the token is not at the edge in that direction.
struct MixChannels {
  int first;
  bool exist;
  int step;

  __device__ MixChannels(const MixShape& shape, int vector) : shape_(shape) {
    first = (static_cast<int>(blockIdx.y) * static_cast<int>(blockDim.x) + static_cast<int>(threadIdx.x)) * vector;
    exist = first < shape.channels;
    const auto bound = [&](int64_t q) { return static_cast<int>(static_cast<int64_t>(shape.group) * q / 4); };
    const int within = first % shape.group;
    quarter_ = (within >= bound(1)) + (within >= bound(2)) + (within >= bound(3));
    step = (reads_backward() ? -1 : 1) * (in_rows() ? 1 : shape.width);
  }

  __device__ bool in_rows() const { return quarter_ < 2; }              ///< Or within columns.
  __device__ bool reads_backward() const { return quarter_ % 2 == 0; }  ///< From the left, or from above.

  /// Whether the token `direction` steps from `token` is its neighbour within the grid.
  __device__ bool has_neighbour(int token, int direction) const {
    const int row = token / shape_.width, column = token - row * shape_.width;
    const bool forward = reads_backward() == (direction < 0);  // right or down
    if (in_rows()) return forward ? column + 1 < shape_.width : column > 0;
    return forward ? row + 1 < shape_.height : row > 0;
  }

 private:
  const MixShape& shape_;
  int quarter_;
};

template <typename T, typename In, int kVector, int kMixes>
__global__ void __launch_bounds__(kThreads)
    mix_kernel(const __grid_constant__ MixShape shape, const __grid_constant__ MixInputs<T, In> inputs,
               const __grid_constant__ MixOutputs<In> outputs) {
  constexpr int kUnroll = 2;  // Tokens whose loads are under way together.
  const MixChannels channels(shape, kVector);
  if (!channels.exist) return;
  T mixes[kMixes][kVector], weight[kVector], bias[kVector];
#pragma unroll
  for (int j = 0; j < kMixes; ++j) load_parameter(mixes[j], inputs.mixes[j], channels.first, T(0));
  load_parameter(weight, inputs.weight, channels.first, T(1));
  load_parameter(bias, inputs.bias, channels.first, T(0));

  const int rows = static_cast<int>(blockDim.y);
  const int64_t image_size = static_cast<int64_t>(shape.height) * shape.width * shape.channels;
  const unsigned strips = shape.all_strips();
  for (unsigned index = blockIdx.x; index < strips; index += gridDim.x) {
    const Strip strip(shape, index);
    const int begin = strip.begin, end = strip.end;
    const int64_t base = strip.image * image_size + channels.first;
    for (int first = begin + static_cast<int>(threadIdx.y); first < end; first += kUnroll * rows) {
      Chunk<In, kVector> x[kUnroll], neighbour[kUnroll];
      bool inside[kUnroll];
#pragma unroll
      for (int i = 0; i < kUnroll; ++i) {
        const int token = first + i * rows;
        inside[i] = token < end && channels.has_neighbour(token, 1);
        const In* from = inputs.x + base + static_cast<int64_t>(token) * shape.channels;
        if (token < end) x[i] = load_chunk<kVector>(from);
        if (inside[i]) neighbour[i] = load_chunk<kVector>(from + static_cast<int64_t>(channels.step) * shape.channels);
      }
#pragma unroll
      for (int i = 0; i < kUnroll; ++i) {
        const int token = first + i * rows;
        if (token >= end) break;
        T n[kVector], shifted[kVector];
#pragma unroll
        for (int c = 0; c < kVector; ++c) {
          n[c] = x[i][c] * weight[c] + bias[c];
          shifted[c] = inside[i] ? neighbour[i][c] * weight[c] + bias[c] : T(0);
        }
#pragma unroll
        for (int j = 0; j < kMixes; ++j) {
          T out[kVector];
#pragma unroll
          for (int c = 0; c < kVector; ++c) out[c] = mixes[j][c] * n[c] + (T(1) - mixes[j][c]) * shifted[c];
          store_chunk<kVector>(outputs.out[j] + base + static_cast<int64_t>(token) * shape.channels, out);
        }
      }
    }
  }
}

/// Bytes of shared memory that a thread needs for write_sums().
template <typename T, int kSums, int kVector>
constexpr size_t kSumBytes = sizeof(T) * kSums * kVector;

/// Sums each thread's `sums` over the block's rows, in their order, to [blocks, kSums, channels] in `parts`. All
/// threads of the block call it; nothing else uses the dynamic shared memory any more.
template <typename T, int kSums, int kVector>
__device__ __forceinline__ void write_sums(const MixShape& shape, const T (&sums)[kSums][kVector],
                                           T* __restrict__ parts) {
  extern __shared__ __align__(16) char memory[];
  T* const shared = reinterpret_cast<T*>(memory);
  const int lanes = static_cast<int>(blockDim.x), rows = static_cast<int>(blockDim.y);
  const int lane = static_cast<int>(threadIdx.x), row = static_cast<int>(threadIdx.y);
  const int columns = lanes * kVector, first = static_cast<int>(blockIdx.y) * columns;
  __syncthreads();
#pragma unroll
  for (int j = 0; j < kSums; ++j) {
    Vector<T, kVector> own;
#pragma unroll
    for (int c = 0; c < kVector; ++c) own.values[c] = sums[j][c];
    store_vector(shared + (row * kSums + j) * columns + lane * kVector, own);
  }
  __syncthreads();
  for (int i = row * lanes + lane; i < kSums * columns; i += rows * lanes) {
    T sum = T(0);
    for (int r = 0; r < rows; ++r) sum += shared[r * kSums * columns + i];
    const int j = i / columns, channel = first + i - j * columns;
    if (channel < shape.channels) {
      parts[(static_cast<int64_t>(blockIdx.x) * kSums + j) * shape.channels + channel] = sum;
    }
  }
}

}  // namespace vrwkv::ops::cuda
