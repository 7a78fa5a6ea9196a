#pragma once

#include <cuda_pipeline.h>

#include "ops/cuda/dependent_launch.cuh"
#include "ops/cuda/token_shift_mix.cuh"

// The backward pass of token_shift_mix. A thread walks along the lines of tokens, rows or columns, in which its
// channels are shifted: what a token reads and what reads it are the tokens before and after it, so every value is
// fetched once. Channels that are shifted forwards and backwards walk in the same order, side by side: a quarter of 192
// channels in 16 bits has 96 bytes, and two that come at different times do not share what memory gives at once.

namespace vrwkv::ops::cuda {

/// Of a block, one to a multiprocessor: more threads read in more places at once than the memory likes. With 192, 384
/// or 768 channels in 16 bits each quarter has three warps.
constexpr int kWalkThreads = 384;
constexpr int kWalkAhead = 4;  ///< Tokens of a thread that are under way.

template <typename In>
struct MixGradients {
  const In* gradients[kMaxMixes];
};

/// Rows and columns of tokens are walked in segments of equal length, but for a shorter last one: how many there are,
/// and how long.
struct MixSegments {
  int of_row, row_length;
  int of_column, column_length;
};

/// What a thread of the block has: some channels, and one of the segments that the block walks along together.
struct WalkPlace {
  int row;      ///< Of the block's segments.
  int channel;  ///< The first one.

  /// Where quarters are alike, warps are of one quarter as far as possible, so that they go one way.
  __device__ __forceinline__ WalkPlace(const MixShape& shape, int vector) {
    const int lanes = static_cast<int>(blockDim.x), rows = static_cast<int>(blockDim.y);
    const int lane = static_cast<int>(threadIdx.x);
    row = static_cast<int>(threadIdx.y);
    channel = (static_cast<int>(blockIdx.y) * lanes + lane) * vector;
    if (gridDim.y > 1 || shape.group % (4 * vector) != 0) return;
    const int of_quarter = lanes / 4, thread = row * lanes + lane, quarter = thread / (of_quarter * rows);
    const int within = thread - quarter * of_quarter * rows, of_group = shape.group / (4 * vector);
    row = within / of_quarter;
    const int number = within - row * of_quarter, group = number / of_group;
    channel = group * shape.group + (quarter * of_group + number - group * of_group) * vector;
  }
};

/// A thread's walk along one segment.
struct Segment {
  unsigned at;        ///< Index of the first token's vector of channels.
  int count;          ///< Tokens.
  bool begins, ends;  ///< Whether the line does so with the segment.

  /// Segment `index` of all images; side by side are those of lines side by side. `of_line`, `longest`: as MixSegments
  /// has it; `lines`, `length`: of an image, in the direction of the walk.
  __device__ __forceinline__ Segment(const MixShape& shape, const MixChannels& channels, unsigned vectors, int vector,
                                     unsigned index, int of_line, int longest, int lines, int length) {
    const unsigned of_image = static_cast<unsigned>(of_line) * static_cast<unsigned>(lines), image = index / of_image;
    const int within = static_cast<int>(index - image * of_image), part = within / lines, line = within - part * lines;
    const int first = part * longest;
    count = length - first < longest ? length - first : longest;
    begins = first == 0;
    ends = first + count == length;
    const int token = channels.in_rows ? line * shape.width + first : first * shape.width + line;
    const unsigned tokens = static_cast<unsigned>(shape.height) * static_cast<unsigned>(shape.width);
    at = (image * tokens + static_cast<unsigned>(token)) * vectors + static_cast<unsigned>(channels.first / vector);
  }
};

/// gx, and the block's sums of the gradients of the mixes, weight and bias: [kMixes + 2, blocks, channels] in `parts`.
template <typename T, typename In, int kVector, int kMixes>
class MixBackward {
 public:
  static constexpr int kSums = kMixes + 2, kTensors = kMixes + 1;
  using Piece = Chunk<In, kVector>;
  static constexpr size_t kRingBytes = kWalkAhead * kTensors * sizeof(Piece);  ///< Of a thread.
  static constexpr size_t kShared =
      kRingBytes > kSumBytes<T, kSums, kVector> ? kRingBytes : kSumBytes<T, kSums, kVector>;

  __device__ __forceinline__ MixBackward(const MixInputs<T, In>& inputs, const MixGradients<In>& outer, In* gx,
                                         char* ring, int first)
      : inputs_(inputs), outer_(outer), gx_(gx), first_(first) {
    ring_ = reinterpret_cast<Piece*>(ring) + threadIdx.y * blockDim.x + threadIdx.x;
  }

  /// Along one segment, each token `step` vectors behind the one before, where a token reads the one before it.
  __device__ __forceinline__ void walk_behind_read(const Segment& segment, unsigned step) {
    Piece before = {};
    if (!segment.begins) before = *piece(inputs_.x, segment.at - step);
    const int given = segment.count + (segment.ends ? 0 : 1);
    start(segment, step, segment.count, given);
    T n_before[kVector], x_before[kVector], own_before[kVector], own[kVector], others[kVector];
#pragma unroll
    for (int c = 0; c < kVector; ++c) n_before[c] = segment.begins ? T(0) : before[c] * weight_[c] + bias_[c];
    unsigned at = segment.at;
    int slot = 0;
#pragma unroll 1
    for (int i = 0;; ++i) {
      __pipeline_wait_prior(kWalkAhead - 1);
      const bool last = i == segment.count;
      Piece gradients[kMixes];
#pragma unroll
      for (int j = 0; j < kMixes; ++j) gradients[j] = in_slot(slot, 1 + j);
      split(gradients, own, others);
      if (last && segment.ends) clear(others);
      if (i > 0) finish(at - step, own_before, others, x_before);
      if (last) break;
      const Piece x = in_slot(slot, 0);
#pragma unroll
      for (int c = 0; c < kVector; ++c) {
        const T n = x[c] * weight_[c] + bias_[c], difference = n - n_before[c];
#pragma unroll
        for (int j = 0; j < kMixes; ++j) sums[j][c] += gradients[j][c] * difference;
        n_before[c] = n;
        x_before[c] = x[c];
        own_before[c] = own[c];
      }
      fetch(slot, i + kWalkAhead, at + kWalkAhead * step, segment.count, given);
      at += step;
      if (++slot == kWalkAhead) slot = 0;
    }
  }

  /// The same where a token reads the one behind it.
  __device__ __forceinline__ void walk_before_read(const Segment& segment, unsigned step) {
    Piece gradients[kMixes] = {};
    if (!segment.begins) {
#pragma unroll
      for (int j = 0; j < kMixes; ++j) gradients[j] = *piece(outer_.gradients[j], segment.at - step);
    }
    const int there = segment.count + (segment.ends ? 0 : 1);
    start(segment, step, there, segment.count);
    T n_before[kVector], own[kVector], others[kVector], others_before[kVector];
    split(gradients, own, others_before);
    clear(n_before);
    unsigned at = segment.at;
    int slot = 0;
#pragma unroll 1
    for (int i = 0;; ++i) {
      __pipeline_wait_prior(kWalkAhead - 1);
      const Piece x = in_slot(slot, 0);
      T n[kVector], x_here[kVector];
#pragma unroll
      for (int c = 0; c < kVector; ++c) {
        x_here[c] = x[c];
        n[c] = x_here[c] * weight_[c] + bias_[c];
      }
      if (i == there) clear(n);
      if (i > 0) {
#pragma unroll
        for (int c = 0; c < kVector; ++c) {
          const T difference = n_before[c] - n[c];
#pragma unroll
          for (int j = 0; j < kMixes; ++j) sums[j][c] += gradients[j][c] * difference;
        }
      }
      if (i == segment.count) break;
#pragma unroll
      for (int j = 0; j < kMixes; ++j) gradients[j] = in_slot(slot, 1 + j);
      split(gradients, own, others);
      finish(at, own, others_before, x_here);
#pragma unroll
      for (int c = 0; c < kVector; ++c) {
        n_before[c] = n[c];
        others_before[c] = others[c];
      }
      fetch(slot, i + kWalkAhead, at + kWalkAhead * step, there, segment.count);
      at += step;
      if (++slot == kWalkAhead) slot = 0;
    }
  }

  T sums[kSums][kVector] = {};

 private:
  /// Vector `index` of a tensor: 32 bits of it are enough, 64 take a register more for each token under way.
  template <typename P>
  static __device__ __forceinline__ auto piece(P* tensor, unsigned index) {
    using Target = std::conditional_t<std::is_const_v<P>, const Piece, Piece>;
    return reinterpret_cast<Target*>(tensor) + index;
  }

  static __device__ __forceinline__ void clear(T (&values)[kVector]) {
#pragma unroll
    for (int c = 0; c < kVector; ++c) values[c] = T(0);
  }

  __device__ __forceinline__ Piece& in_slot(int slot, int tensor) const {
    return ring_[(slot * kTensors + tensor) * kWalkThreads];
  }

  __device__ __forceinline__ void copy(int slot, int tensor, const Piece* from) const {
    if constexpr (sizeof(Piece) >= 4) {
      __pipeline_memcpy_async(&in_slot(slot, tensor), from, sizeof(Piece));
    } else {
      in_slot(slot, tensor) = *from;  // There are no asynchronous copies of two bytes.
    }
  }

  /// Sends for token `number` of a segment, of which `there` have x and `given` have gradients.
  __device__ __forceinline__ void fetch(int slot, int number, unsigned at, int there, int given) const {
    if (number < there) copy(slot, 0, piece(inputs_.x, at));
    if (number < given) {
#pragma unroll
      for (int j = 0; j < kMixes; ++j) copy(slot, 1 + j, piece(outer_.gradients[j], at));
    }
    __pipeline_commit();
  }

  /// The first tokens of a segment, and once, while they are under way, the parameters.
  __device__ __forceinline__ void start(const Segment& segment, unsigned step, int there, int given) {
#pragma unroll 1
    for (int i = 0; i < kWalkAhead; ++i) fetch(i, i, segment.at + static_cast<unsigned>(i) * step, there, given);
    if (loaded_) return;
    loaded_ = true;
#pragma unroll
    for (int j = 0; j < kMixes; ++j) load_parameter(mixes_[j], inputs_.mixes[j], first_, T(0));
    load_parameter(weight_, inputs_.weight, first_, T(1));
    load_parameter(bias_, inputs_.bias, first_, T(0));
  }

  /// What a token's gradients give: to itself, and to the token that it reads.
  __device__ __forceinline__ void split(const Piece (&gradients)[kMixes], T (&own)[kVector],
                                        T (&others)[kVector]) const {
#pragma unroll
    for (int c = 0; c < kVector; ++c) {
      own[c] = others[c] = T(0);
#pragma unroll
      for (int j = 0; j < kMixes; ++j) {
        own[c] += mixes_[j][c] * gradients[j][c];
        others[c] += (T(1) - mixes_[j][c]) * gradients[j][c];
      }
    }
  }

  /// The token at `at` has all of its gradient.
  __device__ __forceinline__ void finish(unsigned at, const T (&own)[kVector], const T (&others)[kVector],
                                         const T (&x)[kVector]) {
    T out[kVector];
#pragma unroll
    for (int c = 0; c < kVector; ++c) {
      const T gn = own[c] + others[c];
      sums[kMixes][c] += gn * x[c];
      sums[kMixes + 1][c] += gn;
      out[c] = gn * weight_[c];
    }
    *piece(gx_, at) = Piece::rounded(out);
  }

  const MixInputs<T, In>& inputs_;
  const MixGradients<In>& outer_;
  In* gx_;
  Piece* ring_;  ///< The thread's own: its tokens on their way.
  int first_;
  bool loaded_ = false;
  T mixes_[kMixes][kVector], weight_[kVector], bias_[kVector];
};

template <typename T, typename In, int kVector, int kMixes>
__global__ void __launch_bounds__(kWalkThreads, 1)
    mix_backward_kernel(const __grid_constant__ MixShape shape, const __grid_constant__ MixSegments segments,
                        const __grid_constant__ MixInputs<T, In> inputs, const __grid_constant__ MixGradients<In> outer,
                        In* __restrict__ gx, T* __restrict__ parts) {
  extern __shared__ __align__(16) char memory[];
  const WalkPlace place(shape, kVector);
  const MixChannels channels(shape, place.channel);
  MixBackward<T, In, kVector, kMixes> backward(inputs, outer, gx, memory, channels.first);
  start_in_turn();
  if (channels.exist) {
    const bool in_rows = channels.in_rows;
    const int lines = in_rows ? shape.height : shape.width, length = in_rows ? shape.width : shape.height;
    const int of_line = in_rows ? segments.of_row : segments.of_column;
    const int longest = in_rows ? segments.row_length : segments.column_length;
    const unsigned vectors = static_cast<unsigned>(shape.channels) / kVector;
    const unsigned step = (in_rows ? 1U : static_cast<unsigned>(shape.width)) * vectors;
    const unsigned count =
        static_cast<unsigned>(shape.batch) * static_cast<unsigned>(lines) * static_cast<unsigned>(of_line);
    const auto each = [&](const auto& walk) {
#pragma unroll 1
      for (unsigned index = blockIdx.x * blockDim.y + static_cast<unsigned>(place.row); index < count;
           index += gridDim.x * blockDim.y) {
        walk(Segment(shape, channels, vectors, kVector, index, of_line, longest, lines, length));
      }
    };
    if (channels.reads_backward) {
      each([&](const Segment& segment) { backward.walk_behind_read(segment, step); });
    } else {
      each([&](const Segment& segment) { backward.walk_before_read(segment, step); });
    }
  }
  write_sums(shape, SumRows::of_block(), place.row, place.channel, backward.sums, parts);
}

}  // namespace vrwkv::ops::cuda
