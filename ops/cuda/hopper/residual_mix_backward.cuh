#pragma once

#include "ops/cuda/column_sums.cuh"
#include "ops/cuda/hopper/barrier.cuh"
#include "ops/cuda/residual_parameters.cuh"
#include "ops/cuda/sigmoid.cuh"
#include "ops/cuda/token_shift_mix_backward.cuh"

// The gradients of a residual sum and of the mixes of the cast sum in one kernel: the feed's gradient is neither
// written nor read. A group of threads takes a token at a time, each thread some of its channels; one more warp fetches
// the tokens' rows into a ring. What the mixes' gradients are for those tokens that read a token, its threads fetch
// themselves, from the second cache: these tokens' own groups read it at about the same time. As copies of quarters of
// rows they would be too many for the copy engine.

namespace vrwkv::ops::cuda::hopper {

constexpr int kMixedVector = 4;     ///< Neighbouring channels of a thread.
constexpr int kMixedMostWarps = 8;  ///< Of a group.
/// Of all groups of a block, one to a multiprocessor: with more, a thread has too few registers.
constexpr int kMixedThreads = 576;
constexpr int kMixedStages = 18;  ///< Tokens that are under way, at most.
/// Of what is under way, about: more delays what the threads fetch themselves.
constexpr int kMixedBytesAhead = 96 * 1024;

/// Tensors [B, T, C] in V, sums and their gradients in float32; parts that are not there are null.
template <typename V>
struct ResidualMixes {
  MixInputs<float, V> inputs;  ///< Of the mixes, without weight and bias; x is the feed.
  MixGradients<V> outer;
  const float* gy;        ///< The gradient of the sum itself.
  const V *value, *gate;  ///< The branch before its norm.
  const float* norm_weight;
  const float *scale, *mask;
  float eps;
  float* gx;
  V *gvalue, *ggate;
  float* parts;  ///< [mixes + 2, blocks, C]: sums of the gradients of the mixes, of g z and of g.
  int groups;
  int stages;  ///< Of the ring, a multiple of the groups: a stage is always the same group's, which waits for it in
               ///< turn.
};

/// A stage of the ring: a token's rows, each with room for as many channels as there may be, so that their places are
/// known.
template <typename V, int kMixes, bool kGated>
struct MixedStage {
  static constexpr int kMostChannels = 32 * kMixedMostWarps * kMixedVector;

  float gy[kMostChannels];
  V feed[kMostChannels], value[kMostChannels], gradients[kMixes][kMostChannels];
  V gate[kGated ? kMostChannels : 8];

  /// Of a channel that is there.
  static constexpr int kBytes =
      static_cast<int>(sizeof(float)) + (kMixes + (kGated ? 3 : 2)) * static_cast<int>(sizeof(V));
};

/// The order in which a block's groups take its tokens: from the last on, of which the second cache still
/// has what the kernel before wrote.
struct MixedTurns {
  int tokens;

  __device__ __forceinline__ int token(int turn) const {
    return tokens - 1 - (turn * static_cast<int>(gridDim.x) + static_cast<int>(blockIdx.x));
  }
};

/// By one thread: fetches the rows of all tokens of the block.
template <typename V, int kMixes, bool kGated>
__device__ __forceinline__ void fetch_tokens(const MixedTurns& turns, const ResidualMixes<V>& a, int channels,
                                             RingBarriers<kMixedStages>& barriers,
                                             MixedStage<V, kMixes, kGated>* ring) {
  const int row = channels * static_cast<int>(sizeof(V));
  int stage = 0, parity = 1;
#pragma unroll 1
  for (int turn = 0;; ++turn) {
    const int token = turns.token(turn);
    if (token < 0) return;
    Barrier& full = barriers.full[stage];
    MixedStage<V, kMixes, kGated>& to = ring[stage];
    const int at = token * channels;
    barriers.read[stage].wait(parity);
    full.expect(MixedStage<V, kMixes, kGated>::kBytes * channels);
    copy_bulk(to.value, a.value + at, row, full);
    if constexpr (kGated) copy_bulk(to.gate, a.gate + at, row, full);
    copy_bulk(to.gy, a.gy + at, channels * static_cast<int>(sizeof(float)), full);
    copy_bulk(to.feed, a.inputs.x + at, row, full);
#pragma unroll
    for (int j = 0; j < kMixes; ++j) copy_bulk(to.gradients[j], a.outer.gradients[j] + at, row, full);
    if (++stage == a.stages) {
      stage = 0;
      parity ^= 1;
    }
  }
}

/// Sums over a group of threads, whole warps, that have a token together.
class MixedGroup {
 public:
  static constexpr int kSums = 4, kParts = kMixedMostWarps * kSums;
  static_assert(kParts == 32);

  /// `parts`: for two sums after each other, so that there is one barrier a sum.
  __device__ __forceinline__ MixedGroup(int number, int thread, int threads, float (&parts)[2][kParts])
      : parts_(parts), number_(number), thread_(thread), threads_(threads) {
    if (thread < 32) parts[0][thread] = parts[1][thread] = 0.0F;
  }

  /// The sums over all threads, the same bits in each of them.
  __device__ __forceinline__ void add_up(float (&sums)[kSums]) {
    const int lane = thread_ % 32;
    const bool odd = (lane & 1) != 0, upper = (lane & 2) != 0;
    // Each lane keeps one of the sums.
    const float low = (odd ? sums[1] : sums[0]) + from_lane(odd ? sums[0] : sums[1], 1);
    const float high = (odd ? sums[3] : sums[2]) + from_lane(odd ? sums[2] : sums[3], 1);
    float own = over_lanes((upper ? high : low) + from_lane(upper ? low : high, 2));
    if (lane < kSums) parts_[turn_][thread_ / 32 * kSums + lane] = own;
    asm volatile("bar.sync %0, %1;" ::"r"(number_ + 1), "r"(threads_) : "memory");
    own = over_lanes(parts_[turn_][lane]);
    turn_ ^= 1;
#pragma unroll
    for (int i = 0; i < kSums; ++i) sums[i] = __shfl_sync(0xffffffffU, own, i);
  }

 private:
  static __device__ __forceinline__ float from_lane(float value, int distance) {
    return __shfl_xor_sync(0xffffffffU, value, distance);
  }

  /// Over the lanes that keep the same sum.
  static __device__ __forceinline__ float over_lanes(float value) {
#pragma unroll
    for (int distance = kSums; distance < 32; distance *= 2) value += from_lane(value, distance);
    return value;
  }

  float (&parts_)[2][kParts];
  int number_, thread_, threads_, turn_ = 0;
};

/// A group has a thread for each kMixedVector channels. Behind the groups a warp that fetches.
template <typename V, int kMixes, bool kGated>
__global__ void __launch_bounds__(kMixedThreads + 32, 1)
    residual_mix_backward_kernel(const __grid_constant__ MixShape shape, const __grid_constant__ ResidualMixes<V> a) {
  using Stage = MixedStage<V, kMixes, kGated>;
  using Piece = Chunk<V, kMixedVector>;
  constexpr int kVector = kMixedVector, kMostGroups = kMixedThreads / 64;
  extern __shared__ __align__(16) char memory[];
  auto* const ring = reinterpret_cast<Stage*>(memory);
  __shared__ RingBarriers<kMixedStages> barriers;
  __shared__ float parts[kMostGroups + 1][2][MixedGroup::kParts];
  const int threads = shape.channels / kVector;
  const int number = static_cast<int>(threadIdx.x) / threads;
  const int thread = static_cast<int>(threadIdx.x) - number * threads;
  MixedGroup group(number, thread, threads, parts[number]);
  if (threadIdx.x == 0) {
    barriers.init(threads / 32);
    publish_barriers();
  }
  __syncthreads();
  start_in_turn();

  const MixedTurns turns{static_cast<int>(shape.tokens())};
  float sums[kMixes + 2][kVector] = {};
  if (number == a.groups) {
    if (thread == 0) fetch_tokens<V, kMixes, kGated>(turns, a, shape.channels, barriers, ring);
    __syncwarp();
  } else {
    const MixChannels channels(shape, thread * kVector);
    float mixes[kMixes][kVector], factor[kVector];
#pragma unroll
    for (int j = 0; j < kMixes; ++j) load_parameter(mixes[j], a.inputs.mixes[j], channels.first, 0.0F);
    {
      float scale[kVector];
      load_parameter(factor, a.norm_weight, channels.first, 1.0F);
      load_parameter(scale, a.scale, channels.first, 1.0F);
#pragma unroll
      for (int c = 0; c < kVector; ++c) factor[c] *= scale[c];
    }
    const float inverse_channels = 1.0F / static_cast<float>(shape.channels);

    // Fetched a token ahead: what lies in the caches takes less time than a token.
    Piece readers_next[kMixes];
    const auto fetch = [&](int token) {
#pragma unroll
      for (int j = 0; j < kMixes; ++j) readers_next[j] = Piece{};
      if (token < 0 || !channels.is_read(static_cast<unsigned>(token))) return;
      const int at = (token - channels.step) * shape.channels + channels.first;
#pragma unroll
      for (int j = 0; j < kMixes; ++j) readers_next[j] = load_chunk<kVector>(a.outer.gradients[j] + at);
    };
    fetch(turns.token(number));
    int stage = number, parity = 0;
#pragma unroll 1
    for (int turn = number;; turn += a.groups) {
      const int token = turns.token(turn);
      if (token < 0) break;
      const Stage& own = ring[stage];
      Piece readers[kMixes];
#pragma unroll
      for (int j = 0; j < kMixes; ++j) readers[j] = readers_next[j];
      fetch(turns.token(turn + a.groups));
      barriers.full[stage].wait(parity);

      // z before the norm, and its first channel, from which all are measured: no farther from the mean than the root
      // of C standard deviations, so that sums of squares lose little.
      [[maybe_unused]] float s[kVector];
      float z[kVector], first = own.value[0];
      const Piece value = load_chunk<kVector>(own.value + channels.first);
#pragma unroll
      for (int c = 0; c < kVector; ++c) z[c] = value[c];
      if constexpr (kGated) {
        const Piece gate = load_chunk<kVector>(own.gate + channels.first);
#pragma unroll
        for (int c = 0; c < kVector; ++c) {
          s[c] = sigmoid(gate[c]);
          z[c] *= s[c];
        }
        first *= sigmoid(static_cast<float>(own.gate[0]));
      }

      const auto gy = load_chunk<kVector>(own.gy + channels.first);
      const Piece x = load_chunk<kVector>(own.feed + channels.first);
      float g[kVector];
#pragma unroll
      for (int c = 0; c < kVector; ++c) g[c] = gy[c];
#pragma unroll
      for (int j = 0; j < kMixes; ++j) {
        const Piece mine = load_chunk<kVector>(own.gradients[j] + channels.first);
#pragma unroll
        for (int c = 0; c < kVector; ++c) {
          const float difference = mine[c] - readers[j][c];
          sums[j][c] += difference * x[c];
          g[c] = mixes[j][c] * difference + (g[c] + readers[j][c]);
        }
      }
      __syncwarp();
      if (thread % 32 == 0) barriers.read[stage].arrive();
      const int at = token * shape.channels + channels.first;
      store_chunk<kVector>(a.gx + at, g);

      if (a.mask != nullptr) {
        const float mask = a.mask[shape.image.div(static_cast<unsigned>(token))];
#pragma unroll
        for (int c = 0; c < kVector; ++c) g[c] *= mask;
      }
      float of_row[MixedGroup::kSums] = {};  // of z, z^2, g and g z
#pragma unroll
      for (int c = 0; c < kVector; ++c) {
        const float distance = z[c] - first, scaled = g[c] * factor[c];
        of_row[0] += distance;
        of_row[1] += distance * distance;
        of_row[2] += scaled;
        of_row[3] += scaled * distance;
      }
      group.add_up(of_row);
#pragma unroll
      for (float& sum : of_row) sum *= inverse_channels;
      const auto [mean, mean_square, mean_g, mean_gz] = of_row;
      const float rstd = rsqrtf(mean_square - mean * mean + a.eps), mean_product = rstd * (mean_gz - mean * mean_g);
      const float middle = first + mean;
      [[maybe_unused]] float ggate[kVector];
#pragma unroll
      for (int c = 0; c < kVector; ++c) {
        const float hat = (z[c] - middle) * rstd;
        sums[kMixes][c] += g[c] * hat;
        sums[kMixes + 1][c] += g[c];
        g[c] = standardized_gradient(g[c] * factor[c], hat, rstd, mean_g, mean_product);
        if constexpr (kGated) {
          ggate[c] = g[c] * z[c] * (1.0F - s[c]);
          g[c] *= s[c];
        }
      }
      if constexpr (kGated) store_chunk<kVector>(a.ggate + at, ggate);
      store_chunk<kVector>(a.gvalue + at, g);
      stage += a.groups;
      if (stage >= a.stages) {
        stage -= a.stages;
        parity ^= 1;
      }
    }
  }
  write_sums(shape, {threads, a.groups, static_cast<int>(threadIdx.x), static_cast<int>(blockDim.x)}, number,
             thread * kVector, sums, a.parts);
}

/// The parameter gradients from the parts of that kernel's blocks, those of the mixes to gmixes [mixes, C].
template <int kMixes>
__global__ void __launch_bounds__(kSumThreads)
    mixed_parameters_kernel(const float* __restrict__ parts, int blocks, int channels, BranchParameters parameters,
                            float* __restrict__ gmixes) {
  start_in_turn();
  float sums[kMixes + 2];
  if (!sum_rows(parts, blocks, channels, sums)) return;
  const int64_t channel = sum_column();
#pragma unroll
  for (int j = 0; j < kMixes; ++j) gmixes[j * channels + channel] = sums[j];
  parameters.write(channel, sums[kMixes], sums[kMixes + 1]);
}

}  // namespace vrwkv::ops::cuda::hopper
