#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <initializer_list>

#include "ops/cuda/chunk.cuh"
#include "ops/cuda/passing.cuh"
#include "ops/cuda/sigmoid.cuh"

// Rows of [rows, channels] in the registers of a warp or half a warp. Lane l holds the chunks l, l + kLanes, ... of a
// row; chunks behind its end are padding and read as 0.
//
// Kernels begin with the last rows: the second cache still has them of what the kernel before wrote, and at the end the
// first ones, with which the next kernel begins.

namespace vrwkv::ops::cuda {

constexpr int kThreads = 128;

/// `lanes` lanes to a row, each with `chunks` chunks of `width` neighbouring channels.
template <int lanes, int width, int chunks>
struct Layout {
  static constexpr int kLanes = lanes;
  static constexpr int kWidth = width;
  static constexpr int kChunks = chunks;
  static constexpr int kElements = width * chunks;
  static constexpr int kRowsPerBlock = kThreads / lanes;
};

/// The share of one lane in one row.
template <typename L>
struct Place {
  int lane;
  int channels;    ///< 0 for lanes that have no row: all their chunks are padding.
  int64_t offset;  ///< Of the row's first element.

  __device__ __forceinline__ Place(int64_t row, int64_t rows, int all_channels)
      : lane(static_cast<int>(threadIdx.x) % L::kLanes),
        channels(row < rows ? all_channels : 0),
        offset(row * all_channels) {}

  /// First channel of a chunk.
  __device__ __forceinline__ int channel(int chunk) const { return (chunk * L::kLanes + lane) * L::kWidth; }
  __device__ __forceinline__ bool has(int chunk) const { return channel(chunk) < channels; }
};

/// A lane's part of a row, unconverted.
template <typename L, typename T>
class RowOf {
 public:
  /// `first` is the row's first element; `passing`: of what is not read again soon.
  template <bool passing = false>
  __device__ __forceinline__ void load(const T* __restrict__ first, const Place<L>& place) {
#pragma unroll
    for (int j = 0; j < L::kChunks; ++j) {
      chunks_[j] = Chunk<T, L::kWidth>{};
      if (!place.has(j)) continue;
      const T* const from = first + place.channel(j);
      chunks_[j] = passing ? load_passing<L::kWidth>(from) : load_chunk<L::kWidth>(from);
    }
  }
  __device__ __forceinline__ float operator[](int element) const {
    return chunks_[element / L::kWidth][element % L::kWidth];
  }

 private:
  Chunk<T, L::kWidth> chunks_[L::kChunks];
};

template <typename L, bool passing = false, typename T>
__device__ __forceinline__ void store(T* __restrict__ first, const Place<L>& place,
                                      const float (&values)[L::kElements]) {
#pragma unroll
  for (int j = 0; j < L::kChunks; ++j) {
    if (!place.has(j)) continue;
    T* const to = first + place.channel(j);
    if (passing) {
      store_passing<L::kWidth>(to, values + j * L::kWidth);
    } else {
      store_chunk<L::kWidth>(to, values + j * L::kWidth);
    }
  }
}

/// The sum over the lanes of a row, the same bits in each of them.
template <typename L>
__device__ __forceinline__ float sum_over_lanes(float value) {
#pragma unroll
  for (int offset = L::kLanes / 2; offset > 0; offset /= 2) value += __shfl_xor_sync(0xffffffffU, value, offset);
  return value;
}

/// values = (values - mean) / sqrt(variance + eps), padding stays 0. Returns 1 / sqrt(variance + eps).
template <typename L>
__device__ __forceinline__ float standardize(float (&values)[L::kElements], const Place<L>& place,
                                             float inverse_channels, float eps) {
  float sum = 0.0F;
#pragma unroll
  for (int e = 0; e < L::kElements; ++e) sum += values[e];
  const float mean = sum_over_lanes<L>(sum) * inverse_channels;
  float squares = 0.0F;
#pragma unroll
  for (int e = 0; e < L::kElements; ++e) {
    values[e] = place.has(e / L::kWidth) ? values[e] - mean : 0.0F;
    squares += values[e] * values[e];
  }
  const float rstd = rsqrtf(sum_over_lanes<L>(squares) * inverse_channels + eps);
#pragma unroll
  for (int e = 0; e < L::kElements; ++e) values[e] = place.has(e / L::kWidth) ? values[e] * rstd : 0.0F;
  return rstd;
}

/// Calls `call` with the layout for rows of `channels` <= 1024; `aligned`: rows can be read in chunks of four.
template <typename Call>
void with_layout(int64_t channels, bool aligned, const Call& call) {
  if (aligned && channels % 4 == 0) {
    if (channels <= 192) return call(Layout<16, 4, 3>{});
    if (channels <= 384) return call(Layout<32, 4, 3>{});
    if (channels <= 768) return call(Layout<32, 4, 6>{});
    return call(Layout<32, 4, 8>{});
  }
  if (channels <= 192) return call(Layout<32, 1, 6>{});
  return call(Layout<32, 1, 32>{});
}

template <typename T>
struct Tag {
  using Type = T;
};

/// Calls `call` with the types of x and of value. Those of residual_add_is_fused, which check_residual_add lets pass.
template <typename Call>
void with_dtypes(at::ScalarType x, at::ScalarType value, const Call& call) {
  if (x == at::kBFloat16) return call(Tag<c10::BFloat16>{}, Tag<c10::BFloat16>{});
  if (x == at::kHalf) return call(Tag<c10::Half>{}, Tag<c10::Half>{});
  if (value == at::kBFloat16) return call(Tag<float>{}, Tag<c10::BFloat16>{});
  if (value == at::kHalf) return call(Tag<float>{}, Tag<c10::Half>{});
  return call(Tag<float>{}, Tag<float>{});
}

/// Whether four neighbouring elements of each tensor can be read in one access; undefined tensors do not count.
inline bool is_aligned(std::initializer_list<at::Tensor> tensors) {
  for (const at::Tensor& tensor : tensors) {
    if (!tensor.defined()) continue;
    const auto address = reinterpret_cast<uintptr_t>(tensor.const_data_ptr());
    if (address % (4 * static_cast<uintptr_t>(tensor.element_size())) != 0) return false;
  }
  return true;
}

/// Contiguous and float32, as the kernels read parameters and masks; undefined stays undefined.
inline at::Tensor float_part(const std::optional<at::Tensor>& tensor) {
  return tensor ? tensor->to(at::kFloat).contiguous() : at::Tensor();
}

inline at::Tensor contiguous_part(const std::optional<at::Tensor>& tensor) {
  return tensor ? tensor->contiguous() : at::Tensor();
}

template <typename T>
const T* pointer_to(const at::Tensor& tensor) {
  return tensor.defined() ? tensor.const_data_ptr<T>() : nullptr;
}

template <typename T>
T* mutable_pointer_to(const at::Tensor& tensor) {
  return tensor.defined() ? tensor.mutable_data_ptr<T>() : nullptr;
}

}  // namespace vrwkv::ops::cuda
