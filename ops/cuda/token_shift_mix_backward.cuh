#pragma once

#include <cuda_pipeline.h>

#include "ops/cuda/dependent_launch.cuh"
#include "ops/cuda/token_shift_mix.cuh"

// The backward pass of token_shift_mix. A thread walks along the lines of tokens, rows or columns, in which its
// channels are shifted, from the token that is read to the one that reads it: so the token before is what a token
// reads, the one after is what reads it, and every value is fetched once. All four quarters of the channels walk in the
// same lines at the same time, since their borders lie within what the memory gives at once.

namespace vrwkv::ops::cuda {

/// Of a block, one to a multiprocessor: more threads read in more places at once than the memory likes.
constexpr int kWalkThreads = 512;
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
    const int place = channels.reads_backward() ? first : length - 1 - first;
    const int token = channels.in_rows() ? line * shape.width + place : place * shape.width + line;
    const unsigned tokens = static_cast<unsigned>(shape.height) * static_cast<unsigned>(shape.width);
    at = (image * tokens + static_cast<unsigned>(token)) * vectors + static_cast<unsigned>(channels.first / vector);
  }
};

/// gx, and the block's sums of the gradients of the mixes, weight and bias: [blocks, kMixes + 2, channels] in `parts`.
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

  /// Along one segment, each token being `step` vectors behind the one before.
  __device__ __forceinline__ void walk(const Segment& segment, unsigned step) {
    Piece before = {};
    if (!segment.begins) before = *piece(inputs_.x, segment.at - step);
    const auto fetch = [&](int slot, int number, unsigned at) {
      if (number < segment.count) copy(slot, 0, piece(inputs_.x, at));
      if (number < segment.count + (segment.ends ? 0 : 1)) {
#pragma unroll
        for (int j = 0; j < kMixes; ++j) copy(slot, 1 + j, piece(outer_.gradients[j], at));
      }
      __pipeline_commit();
    };
#pragma unroll 1
    for (int i = 0; i < kWalkAhead; ++i) fetch(i, i, segment.at + static_cast<unsigned>(i) * step);
    load_parameters();
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
      split(slot, gradients, own, others, last && segment.ends);
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
      fetch(slot, i + kWalkAhead, at + kWalkAhead * step);
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

  /// Once, when the first tokens are under way.
  __device__ __forceinline__ void load_parameters() {
    if (loaded_) return;
    loaded_ = true;
#pragma unroll
    for (int j = 0; j < kMixes; ++j) load_parameter(mixes_[j], inputs_.mixes[j], first_, T(0));
    load_parameter(weight_, inputs_.weight, first_, T(1));
    load_parameter(bias_, inputs_.bias, first_, T(0));
  }

  /// What a token's gradients give: to itself, and to the token that it reads, unless there is none (`alone`).
  __device__ __forceinline__ void split(int slot, Piece (&gradients)[kMixes], T (&own)[kVector], T (&others)[kVector],
                                        bool alone) const {
#pragma unroll
    for (int j = 0; j < kMixes; ++j) gradients[j] = in_slot(slot, 1 + j);
#pragma unroll
    for (int c = 0; c < kVector; ++c) {
      own[c] = others[c] = T(0);
#pragma unroll
      for (int j = 0; j < kMixes; ++j) {
        own[c] += mixes_[j][c] * gradients[j][c];
        others[c] += (T(1) - mixes_[j][c]) * gradients[j][c];
      }
      if (alone) others[c] = T(0);
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
  admit_dependents();
  const MixChannels channels(shape, kVector);
  MixBackward<T, In, kVector, kMixes> backward(inputs, outer, gx, memory, channels.first);
  if (channels.exist) {
    const bool in_rows = channels.in_rows();
    const int lines = in_rows ? shape.height : shape.width, length = in_rows ? shape.width : shape.height;
    const int of_line = in_rows ? segments.of_row : segments.of_column;
    const int longest = in_rows ? segments.row_length : segments.column_length;
    const unsigned vectors = static_cast<unsigned>(shape.channels) / kVector;
    const unsigned step = static_cast<unsigned>(-channels.step) * vectors;
    const unsigned count =
        static_cast<unsigned>(shape.batch) * static_cast<unsigned>(lines) * static_cast<unsigned>(of_line);
#pragma unroll 1
    for (unsigned index = blockIdx.x * blockDim.y + threadIdx.y; index < count; index += gridDim.x * blockDim.y) {
      backward.walk({shape, channels, vectors, kVector, index, of_line, longest, lines, length}, step);
    }
  }
  write_sums(shape, backward.sums, parts);
}

}  // namespace vrwkv::ops::cuda
