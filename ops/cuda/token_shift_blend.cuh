#pragma once

#include "ops/cuda/chunk.cuh"
#include "ops/cuda/token_shift_mix.cuh"

// token_shift_blend: the threads and strips of token_shift_mix, with a share of every mix for every token. Values are
// kept as they lie in memory until they are used: there are 22 vectors of them to a token in the backward pass.

namespace vrwkv::ops::cuda {

/// x, the shares [kBlends, B, T, C] and the parameters, of which weight and bias may be null.
template <typename T, typename In>
struct BlendInputs {
  const In *x, *shares;
  const T* constants[kBlends];
  const T *weight, *bias;
};

/// kBlends tensors [B, T, C]: the outputs, or their gradients.
template <typename In>
struct BlendTensors {
  In* tensors[kBlends];
};

/// A thread's values of the parameters.
template <typename T, int kVector>
struct BlendParameters {
  T constants[kBlends][kVector], weight[kVector], bias[kVector];

  template <typename In>
  __device__ __forceinline__ BlendParameters(const BlendInputs<T, In>& inputs, int first) {
#pragma unroll
    for (int j = 0; j < kBlends; ++j) load_parameter(constants[j], inputs.constants[j], first, T(0));
    load_parameter(weight, inputs.weight, first, T(1));
    load_parameter(bias, inputs.bias, first, T(0));
  }
};

template <typename T, typename In, int kVector>
__global__ void __launch_bounds__(kThreads)
    blend_kernel(const __grid_constant__ MixShape shape, const __grid_constant__ BlendInputs<T, In> inputs,
                 const __grid_constant__ BlendTensors<In> outputs) {
  constexpr int kUnroll = kMixUnroll;
  const MixChannels channels(shape, thread_channel(kVector));
  start_in_turn();
  if (!channels.exist) return;
  const BlendParameters<T, kVector> parameters(inputs, channels.first);
  const unsigned rows = blockDim.y, tokens = shape.tokens();
  const int64_t share_size = static_cast<int64_t>(tokens) * shape.channels;
  const int64_t step = static_cast<int64_t>(channels.step) * shape.channels;
  for (unsigned first = blockIdx.x * kUnroll * rows + threadIdx.y; first < tokens;
       first += gridDim.x * kUnroll * rows) {
    Chunk<In, kVector> x[kUnroll], neighbour[kUnroll], shares[kUnroll][kBlends];
    bool inside[kUnroll];
#pragma unroll
    for (int i = 0; i < kUnroll; ++i) {
      const unsigned token = first + i * rows;
      const int64_t at = static_cast<int64_t>(token) * shape.channels + channels.first;
      inside[i] = token < tokens && channels.reads(token);
      if (inside[i]) neighbour[i] = load_chunk<kVector>(inputs.x + at + step);
      if (token >= tokens) continue;
      x[i] = load_chunk<kVector>(inputs.x + at);
#pragma unroll
      for (int j = 0; j < kBlends; ++j) shares[i][j] = load_chunk<kVector>(inputs.shares + j * share_size + at);
    }
#pragma unroll
    for (int i = 0; i < kUnroll; ++i) {
      const unsigned token = first + i * rows;
      if (token >= tokens) break;
      T n[kVector], difference[kVector];
#pragma unroll
      for (int c = 0; c < kVector; ++c) {
        n[c] = x[i][c] * parameters.weight[c] + parameters.bias[c];
        difference[c] = (inside[i] ? neighbour[i][c] * parameters.weight[c] + parameters.bias[c] : T(0)) - n[c];
      }
#pragma unroll
      for (int j = 0; j < kBlends; ++j) {
        T out[kVector];
#pragma unroll
        for (int c = 0; c < kVector; ++c) {
          out[c] = n[c] + difference[c] * (parameters.constants[j][c] + shares[i][j][c]);
        }
        store_chunk<kVector>(outputs.tensors[j] + static_cast<int64_t>(token) * shape.channels + channels.first, out);
      }
    }
  }
}

/// gx, the gradients of the shares, and the block's sums of those of the constants, weight and bias: [kBlends + 2,
/// blocks, channels] in `parts`.
template <typename T, typename In, int kVector>
__global__ void __launch_bounds__(kThreads, 2)
    blend_backward_kernel(const __grid_constant__ MixShape shape, const __grid_constant__ BlendInputs<T, In> inputs,
                          const __grid_constant__ BlendTensors<const In> outer, In* __restrict__ gx,
                          In* __restrict__ gshares, T* __restrict__ parts) {
  const MixChannels channels(shape, thread_channel(kVector));
  start_in_turn();
  T sums[kBlends + 2][kVector] = {};
  if (channels.exist) {
    const BlendParameters<T, kVector> parameters(inputs, channels.first);
    const unsigned rows = blockDim.y, tokens = shape.tokens();
    const int64_t share_size = static_cast<int64_t>(tokens) * shape.channels;
    const int64_t step = static_cast<int64_t>(channels.step) * shape.channels;
    for (unsigned token = blockIdx.x * rows + threadIdx.y; token < tokens; token += gridDim.x * rows) {
      const int64_t at = static_cast<int64_t>(token) * shape.channels + channels.first;
      const bool reads = channels.reads(token), is_read = channels.is_read(token);
      Chunk<In, kVector> x, neighbour, own[kBlends], shares[kBlends];
      Chunk<In, kVector> reader[kBlends] = {}, reader_shares[kBlends] = {};
      x = load_chunk<kVector>(inputs.x + at);
      if (reads) neighbour = load_chunk<kVector>(inputs.x + at + step);
#pragma unroll
      for (int j = 0; j < kBlends; ++j) {
        const In* share = inputs.shares + j * share_size + at;
        own[j] = load_chunk<kVector>(outer.tensors[j] + at);
        shares[j] = load_chunk<kVector>(share);
        if (is_read) {
          reader[j] = load_chunk<kVector>(outer.tensors[j] + at - step);
          reader_shares[j] = load_chunk<kVector>(share - step);
        }
      }
      T difference[kVector], gn[kVector] = {};
#pragma unroll
      for (int c = 0; c < kVector; ++c) {
        const T n = x[c] * parameters.weight[c] + parameters.bias[c];
        difference[c] = (reads ? neighbour[c] * parameters.weight[c] + parameters.bias[c] : T(0)) - n;
      }
#pragma unroll
      for (int j = 0; j < kBlends; ++j) {
        T gshare[kVector];
#pragma unroll
        for (int c = 0; c < kVector; ++c) {
          const T constant = parameters.constants[j][c];
          gn[c] += own[j][c] * (T(1) - (constant + shares[j][c])) + reader[j][c] * (constant + reader_shares[j][c]);
          gshare[c] = own[j][c] * difference[c];
          sums[j][c] += gshare[c];
        }
        store_chunk<kVector>(gshares + j * share_size + at, gshare);
      }
#pragma unroll
      for (int c = 0; c < kVector; ++c) {
        sums[kBlends][c] += gn[c] * x[c];
        sums[kBlends + 1][c] += gn[c];
        gn[c] *= parameters.weight[c];
      }
      store_chunk<kVector>(gx + at, gn);
    }
  }
  write_sums(shape, SumRows::of_block(), static_cast<int>(threadIdx.y), channels.first, sums, parts);
}

}  // namespace vrwkv::ops::cuda
