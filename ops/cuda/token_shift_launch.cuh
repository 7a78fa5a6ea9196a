#pragma once

// From tensors to launches of the kernels of token_shift_mix and token_shift_blend.

#include <ATen/Functions.h>
#include <ATen/OpMathType.h>
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>

#include <algorithm>
#include <limits>
#include <tuple>
#include <utility>
#include <vector>

#include "ops/cuda/token_shift_mix_backward.cuh"

namespace vrwkv::ops::cuda {

/// The parameters of one call, contiguous, in the accumulation type T; weight and bias may be undefined.
template <typename T>
struct MixParameters {
  MixParameters(at::TensorList mixes_in, const std::optional<at::Tensor>& weight_in,
                const std::optional<at::Tensor>& bias_in)
      : weight(parameter(weight_in)), bias(parameter(bias_in)) {
    for (const at::Tensor& mix : mixes_in) mixes.push_back(parameter(mix));
  }

  static const T* pointer(const at::Tensor& tensor) { return tensor.defined() ? tensor.const_data_ptr<T>() : nullptr; }

  std::vector<at::Tensor> all() const {
    std::vector<at::Tensor> result = mixes;
    if (weight.defined()) result.insert(result.end(), {weight, bias});
    return result;
  }

  at::Tensor weight, bias;
  std::vector<at::Tensor> mixes;

 private:
  static at::Tensor parameter(const std::optional<at::Tensor>& tensor) {
    return tensor ? tensor->to(c10::CppTypeToScalarType<T>::value).contiguous() : at::Tensor();
  }
};

/// Whether vectors of `count` channels lie in one quarter of a group each and are aligned in all of `tensors`, and so
/// are the `parameters`.
inline bool can_vectorize(const MixShape& shape, const std::vector<at::Tensor>& tensors,
                          const std::vector<at::Tensor>& parameters, int64_t count) {
  for (int64_t q = 1; q <= 4; ++q) {
    if (int64_t{shape.group} * q / 4 % count != 0) return false;
  }
  const auto aligned = [](const at::Tensor& tensor) { return is_aligned(tensor, kParameterBytes); };
  return std::all_of(parameters.begin(), parameters.end(), aligned) &&
         std::all_of(tensors.begin(), tensors.end(), [&](const at::Tensor& tensor) {
           return is_aligned(tensor, static_cast<uintptr_t>(count * tensor.element_size()));
         });
}

/// Divides the work of `kernel`, whose threads take `at_once` tokens in a turn and `shared_bytes`, over as many blocks
/// as run at once.
template <typename Kernel>
Launch divide(const MixShape& shape, int vector, Kernel kernel, int at_once, size_t shared_bytes) {
  const int vectors = (shape.channels + vector - 1) / vector;
  const int parts = (vectors + kThreads - 1) / kThreads;
  const int lanes = (vectors + parts - 1) / parts;
  const int rows = std::max(1, kThreads / lanes);
  const size_t shared = shared_bytes * static_cast<size_t>(lanes * rows);
  int blocks = 0;
  C10_CUDA_CHECK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, lanes * rows, shared));
  const int64_t all =
      static_cast<int64_t>(std::max(1, blocks)) * at::cuda::getCurrentDeviceProperties()->multiProcessorCount;
  const int64_t tokens = int64_t{shape.batch} * shape.height * shape.width;
  const int64_t turns = (tokens + rows * at_once - 1) / (rows * at_once);
  const int64_t wanted = std::min(turns, std::max<int64_t>(1, all / parts));
  return {dim3(static_cast<unsigned>(wanted), static_cast<unsigned>(parts)),
          dim3(static_cast<unsigned>(lanes), static_cast<unsigned>(rows)), static_cast<int>(shared), /*early=*/true};
}

/// Lengths of segments of lines for threads that take `at_once` of them at a time: few turns, of little more than the
/// tokens themselves.
inline std::pair<int, int> divide_lines(int64_t lines, int length, int64_t at_once) {
  constexpr int kShortest = 4, kLongest = 32;
  constexpr int kExtra = 1;  // What a segment takes beside its tokens, in tokens.
  std::pair<int, int> best{1, length};
  int64_t least = std::numeric_limits<int64_t>::max();
  for (int longest = std::min(length, kShortest); longest <= std::min(length, kLongest); ++longest) {
    const int count = (length + longest - 1) / longest, equal = (length + count - 1) / count;
    const int64_t time = (lines * count + at_once - 1) / at_once * (equal + kExtra);
    if (time <= least) {
      least = time;
      best = {count, equal};
    }
  }
  return best;
}

/// Divides the work of `kernel`, whose threads take `shared_bytes` each and walk along segments of lines of tokens.
template <typename Kernel>
Launch divide_walk(const MixShape& shape, MixSegments& segments, int vector, Kernel kernel, size_t shared_bytes) {
  const int vectors = shape.channels / vector;
  const int parts = (vectors + kWalkThreads - 1) / kWalkThreads;
  const int lanes = (vectors + parts - 1) / parts;
  const int rows = kWalkThreads / lanes;
  const int shared = static_cast<int>(shared_bytes) * kWalkThreads;
  C10_CUDA_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared));
  const int64_t blocks = std::max(1, at::cuda::getCurrentDeviceProperties()->multiProcessorCount / parts);
  const int64_t all_rows = int64_t{shape.batch} * shape.height, all_columns = int64_t{shape.batch} * shape.width;
  std::tie(segments.of_row, segments.row_length) = divide_lines(all_rows, shape.width, blocks * rows);
  std::tie(segments.of_column, segments.column_length) = divide_lines(all_columns, shape.height, blocks * rows);
  TORCH_CHECK(int64_t{shape.batch} * shape.height * shape.width * vectors <= std::numeric_limits<unsigned>::max(),
              "token shift: the input is too large for one launch; split the batch");
  // Also of blocks without a segment, which are few: with one on every multiprocessor the second stage's are spread
  // evenly.
  return {dim3(static_cast<unsigned>(blocks), static_cast<unsigned>(parts)),
          dim3(static_cast<unsigned>(lanes), static_cast<unsigned>(rows)), shared, /*early=*/true};
}

/// `op` is for the error.
inline MixShape shape_of(const char* op, const at::Tensor& x, int64_t height, int64_t width,
                         std::optional<int64_t> group) {
  constexpr int64_t kMax = std::numeric_limits<int>::max();
  TORCH_CHECK(x.size(0) * x.size(1) <= kMax && x.size(2) <= kMax, op, ": x is too large for CUDA: ", x.sizes());
  return {static_cast<int>(x.size(0)),
          static_cast<int>(height),
          static_cast<int>(width),
          static_cast<int>(x.size(2)),
          static_cast<int>(group.value_or(x.size(2))),
          MixShape::Divider(static_cast<unsigned>(width)),
          MixShape::Divider(static_cast<unsigned>(height * width))};
}

/// Calls `body(vector)` with the channels of a thread as a compile-time constant.
template <int kWidest, typename Body>
void with_vector(bool vectorize, const Body& body) {
  if (vectorize) {
    body(std::integral_constant<int, kWidest>());
  } else {
    body(std::integral_constant<int, 1>());
  }
}

}  // namespace vrwkv::ops::cuda
