#pragma once

#include "ops/cuda/hopper/barrier.cuh"
#include "ops/cuda/sigmoid.cuh"
#include "ops/cuda/token_shift_mix_backward.cuh"

// The gradients of a residual sum and of the mixes of its standardised feed in one kernel: the feed's gradient is
// neither written nor read, and the feed read once. A group of threads takes a token at a time, each thread some of its
// channels; one more warp fetches the tokens' rows into a ring. What the mixes' gradients are for those tokens that
// read a token, its threads fetch themselves, from the second cache: these tokens' own groups read it at about the same
// time. As copies of quarters of rows they would be too many for the copy engine.

namespace vrwkv::ops::cuda::hopper {

constexpr int kMixedVector = 4;     ///< Neighbouring channels of a thread.
constexpr int kMixedMostWarps = 8;  ///< Of a group.
/// Of all groups of a block, one to a multiprocessor: with more, a thread has too few registers.
constexpr int kMixedThreads = 576;
constexpr int kMixedStages = 24;  ///< Tokens that are under way, at most.
constexpr int kMixedRingBytes = 96 * 1024;

/// Tensors [B, T, C] in V, sums and their gradients in float32; parts that are not there are null.
template <typename V>
struct ResidualMixes {
  MixInputs<float, V> inputs;  ///< Of the mixes; x is the standardised feed.
  MixGradients<V> outer;
  const float* rstd;  ///< [B T], of the feed.
  const float* gy;    ///< The gradient of the sum itself.
  const V *value, *gate;
  const float* mask;  ///< [B]
  float* gx;
  V *gvalue, *ggate;
  float* parts;  ///< [blocks, mixes + 2, C]: sums of the gradients of the mixes, weight and bias.
  int groups, stages;
};

/// Where a token's rows lie in a stage of the ring: gy first, then those in V.
template <typename V, int kMixes, bool kGated>
struct MixedStage {
  static constexpr int kFeed = 0, kGradients = 1, kValue = 1 + kMixes, kGate = kValue + 1;
  static constexpr int kRows = 1 + kMixes + (kGated ? 2 : 0);

  /// Of a channel.
  static constexpr int kBytes = static_cast<int>(sizeof(float)) + kRows * static_cast<int>(sizeof(V));
};

/// The order in which tokens are taken: block by block and group by group, from the last on, of which the second cache
/// still has what the kernel before wrote.
struct MixedTurns {
  int tokens, groups;

  __device__ __forceinline__ int token(int turn) const {
    return tokens - 1 - (turn * static_cast<int>(gridDim.x) + static_cast<int>(blockIdx.x));
  }
};

/// By one thread: fetches the rows of all tokens of the block.
template <typename V, int kMixes, bool kGated>
__device__ __forceinline__ void fetch_tokens(const MixedTurns& turns, const ResidualMixes<V>& a, int channels,
                                             RingBarriers<kMixedStages>& barriers, char* ring) {
  using Stage = MixedStage<V, kMixes, kGated>;
  const int wide = channels * static_cast<int>(sizeof(float)), row = channels * static_cast<int>(sizeof(V));
  int stage = 0, parity = 1;
#pragma unroll 1
  for (int turn = 0;; ++turn) {
    const int token = turns.token(turn);
    if (token < 0) return;
    Barrier& full = barriers.full[stage];
    char* const to = ring + stage * Stage::kBytes * channels;
    const int64_t at = static_cast<int64_t>(token) * channels;
    barriers.read[stage].wait(parity);
    full.expect(Stage::kBytes * channels);
    const auto fetch = [&](int place, const V* tensor) { copy_bulk(to + wide + place * row, tensor + at, row, full); };
    fetch(Stage::kFeed, a.inputs.x);
#pragma unroll
    for (int j = 0; j < kMixes; ++j) fetch(Stage::kGradients + j, a.outer.gradients[j]);
    copy_bulk(to, a.gy + at, wide, full);
    if constexpr (kGated) {
      fetch(Stage::kValue, a.value);
      fetch(Stage::kGate, a.gate);
    }
    if (++stage == a.stages) {
      stage = 0;
      parity ^= 1;
    }
  }
}

/// The two sums over the `threads` of a group, the same bits in each of them. `partial` is another one than that of the
/// group's sums before: so one barrier does.
__device__ __forceinline__ float2 sums_over_group(float2 sums, float2 (&partial)[kMixedMostWarps], int group,
                                                  int thread, int threads) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) {
    sums.x += __shfl_xor_sync(0xffffffffU, sums.x, offset);
    sums.y += __shfl_xor_sync(0xffffffffU, sums.y, offset);
  }
  if (thread % 32 == 0) partial[thread / 32] = sums;
  asm volatile("bar.sync %0, %1;" ::"r"(group + 1), "r"(threads) : "memory");
  sums = partial[0];
#pragma unroll
  for (int warp = 1; warp < kMixedMostWarps; ++warp) {
    sums.x += partial[warp].x;
    sums.y += partial[warp].y;
  }
  return sums;
}

/// A group has a thread for each kMixedVector channels: whole warps. Behind the groups a warp that fetches.
template <typename V, int kMixes, bool kGated>
__global__ void __launch_bounds__(kMixedThreads + 32, 1)
    residual_mix_backward_kernel(const __grid_constant__ MixShape shape, const __grid_constant__ ResidualMixes<V> a) {
  using Stage = MixedStage<V, kMixes, kGated>;
  using Piece = Chunk<V, kMixedVector>;
  constexpr int kVector = kMixedVector, kMostGroups = kMixedThreads / 64;
  extern __shared__ __align__(16) char memory[];
  __shared__ RingBarriers<kMixedStages> barriers;
  __shared__ float2 partial[kMostGroups][2][kMixedMostWarps];
  const int threads = shape.channels / kVector;
  const int group = static_cast<int>(threadIdx.x) / threads, thread = static_cast<int>(threadIdx.x) - group * threads;
  const bool fetches = group == a.groups;
  if (!fetches && thread < 2 * kMixedMostWarps) {
    partial[group][thread / kMixedMostWarps][thread % kMixedMostWarps] = {0.0F, 0.0F};
  }
  if (threadIdx.x == 0) {
    barriers.init(threads / 32);
    publish_barriers();
  }
  __syncthreads();
  start_in_turn();

  const MixedTurns turns{static_cast<int>(shape.tokens()), a.groups};
  float sums[kMixes + 2][kVector] = {};
  if (fetches) {
    if (thread == 0) fetch_tokens<V, kMixes, kGated>(turns, a, shape.channels, barriers, memory);
  } else {
    const MixChannels channels(shape, thread * kVector);
    float mixes[kMixes][kVector], weight[kVector], bias[kVector];
#pragma unroll
    for (int j = 0; j < kMixes; ++j) load_parameter(mixes[j], a.inputs.mixes[j], channels.first, 0.0F);
    load_parameter(weight, a.inputs.weight, channels.first, 1.0F);
    load_parameter(bias, a.inputs.bias, channels.first, 0.0F);
    const float inverse_channels = 1.0F / static_cast<float>(shape.channels);

    // Fetched a token ahead: what lies in the caches takes less time than a token.
    Piece readers_next[kMixes];
    float rstd_next = 0.0F;
    const auto fetch = [&](int token) {
#pragma unroll
      for (int j = 0; j < kMixes; ++j) readers_next[j] = Piece{};
      if (token < 0) return;
      rstd_next = a.rstd[token];
      if (!channels.is_read(static_cast<unsigned>(token))) return;
      const int64_t at = static_cast<int64_t>(token - channels.step) * shape.channels + channels.first;
#pragma unroll
      for (int j = 0; j < kMixes; ++j) readers_next[j] = load_chunk<kVector>(a.outer.gradients[j] + at);
    };
    fetch(turns.token(group));
    int stage = group, parity = 0;
    unsigned odd = 0;
#pragma unroll 1
    for (int turn = group;; turn += a.groups) {
      const int token = turns.token(turn);
      if (token < 0) break;
      const char* const own = memory + stage * Stage::kBytes * shape.channels;
      const auto piece = [&](int place) {
        return load_chunk<kVector>(reinterpret_cast<const V*>(own + shape.channels * static_cast<int>(sizeof(float))) +
                                   place * shape.channels + channels.first);
      };
      const float rstd = rstd_next;
      Piece readers[kMixes];
#pragma unroll
      for (int j = 0; j < kMixes; ++j) readers[j] = readers_next[j];
      fetch(turns.token(turn + a.groups));
      barriers.full[stage].wait(parity);
      const Piece hat = piece(Stage::kFeed);
      float g[kVector] = {}, n[kVector];
#pragma unroll
      for (int c = 0; c < kVector; ++c) n[c] = hat[c] * weight[c] + bias[c];
#pragma unroll
      for (int j = 0; j < kMixes; ++j) {
        const Piece mine = piece(Stage::kGradients + j);
#pragma unroll
        for (int c = 0; c < kVector; ++c) {
          const float difference = mine[c] - readers[j][c];
          sums[j][c] += difference * n[c];
          g[c] += mixes[j][c] * difference + readers[j][c];
        }
      }
      float2 both{0.0F, 0.0F};
#pragma unroll
      for (int c = 0; c < kVector; ++c) {
        sums[kMixes][c] += g[c] * hat[c];
        sums[kMixes + 1][c] += g[c];
        g[c] *= weight[c];
        both.x += g[c];
        both.y += g[c] * hat[c];
      }
      both = sums_over_group(both, partial[group][odd], group, thread, threads);
      odd ^= 1;
      const float mean = both.x * inverse_channels, mean_product = both.y * inverse_channels;
      const auto gy = load_chunk<kVector>(reinterpret_cast<const float*>(own) + channels.first);
#pragma unroll
      for (int c = 0; c < kVector; ++c) g[c] = rstd * (g[c] - mean - hat[c] * mean_product) + gy[c];
      const int64_t at = static_cast<int64_t>(token) * shape.channels + channels.first;
      store_chunk<kVector>(a.gx + at, g);
      if (a.mask != nullptr) {
        const float mask = a.mask[shape.image.div(static_cast<unsigned>(token))];
#pragma unroll
        for (int c = 0; c < kVector; ++c) g[c] *= mask;
      }
      if constexpr (kGated) {
        const Piece value = piece(Stage::kValue), gate = piece(Stage::kGate);
        float ggate[kVector];
#pragma unroll
        for (int c = 0; c < kVector; ++c) {
          const float s = sigmoid(gate[c]);
          ggate[c] = g[c] * value[c] * s * (1.0F - s);
          g[c] *= s;
        }
        store_chunk<kVector>(a.ggate + at, ggate);
      }
      __syncwarp();
      if (thread % 32 == 0) barriers.read[stage].arrive();
      store_chunk<kVector>(a.gvalue + at, g);
      stage += a.groups;
      if (stage >= a.stages) {
        stage -= a.stages;
        parity ^= 1;
      }
    }
  }
  write_sums(shape, {threads, a.groups, static_cast<int>(threadIdx.x), static_cast<int>(blockDim.x)}, group,
             thread * kVector, sums, a.parts);
}

}  // namespace vrwkv::ops::cuda::hopper
