#pragma once

// From tensors to launches of bi_wkv6's kernels: how a shape is divided, and the states at the ends of segments.

#include <ATen/Functions.h>
#include <ATen/OpMathType.h>
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>

#include <algorithm>
#include <limits>

#include "ops/cuda/bi_wkv6_kernels.cuh"

namespace vrwkv::ops::cuda::wkv6 {

/// Contiguous, aligned inputs of one call and their division, for accumulation type T and storage type In.
template <typename T, typename In>
class Launcher {
 public:
  Launcher(const at::Tensor& r, const at::Tensor& k, const at::Tensor& v, const at::Tensor& w, const at::Tensor& u)
      : r_(readable(r)),
        k_(readable(k)),
        v_(readable(v)),
        w_(readable(w.to(c10::CppTypeToScalarType<T>::value))),
        u_(readable(u.to(c10::CppTypeToScalarType<T>::value))),
        stream_(at::cuda::getCurrentCUDAStream()),
        shape_(divide(k)) {}

  /// `tensor` as the kernels read it, 8 channels at a time.
  static at::Tensor readable(const at::Tensor& tensor) {
    return aligned(tensor, 8 * static_cast<uintptr_t>(tensor.element_size()));
  }

  const Shape& shape() const { return shape_; }
  cudaStream_t stream() const { return stream_; }
  unsigned items() const { return static_cast<unsigned>(shape_.items()); }

  Inputs<T, In> inputs() const {
    return {r_.template const_data_ptr<In>(), k_.template const_data_ptr<In>(), v_.template const_data_ptr<In>(),
            w_.template const_data_ptr<T>(), u_.template const_data_ptr<T>()};
  }

  /// Numbers of type T on the device.
  at::Tensor scratch(at::IntArrayRef sizes) const { return at::empty(sizes, w_.options()); }

  /// The states of keys^T values before each segment, in both directions; undefined where sequences are one segment.
  at::Tensor entry_states(const In* keys, const In* values) const {
    if (shape_.segments == 1) return {};
    at::Tensor states = scratch({shape_.items(), 2, kStateSize}), decays = scratch({shape_.items(), kSide});
    segment_states_kernel<T, In>
        <<<2 * items(), kThreads, 0, stream_>>>(shape_, keys, values, w_.template const_data_ptr<T>(),
                                                states.mutable_data_ptr<T>(), decays.mutable_data_ptr<T>());
    C10_CUDA_KERNEL_LAUNCH_CHECK();
    carry(states, decays);
    return states;
  }

  /// From what each segment adds to the states before each segment.
  void carry(const at::Tensor& states, const at::Tensor& decays) const {
    const dim3 grid(static_cast<unsigned>(shape_.batch * shape_.heads), 2, kStateSize / (kCarried * kCarryThreads));
    carry_states_kernel<T>
        <<<grid, kCarryThreads, 0, stream_>>>(shape_, states.mutable_data_ptr<T>(), decays.const_data_ptr<T>());
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  }

  /// Allows `kernel` its `bytes` of shared memory.
  template <typename Kernel>
  static void allow(Kernel kernel, int64_t bytes) {
    C10_CUDA_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)));
  }

  /// Allows `kernel` its `bytes` of shared memory; how many blocks, of such that take items in turn, the device holds.
  template <typename Kernel>
  int64_t resident(Kernel kernel, int threads, int64_t bytes) const {
    allow(kernel, bytes);
    int blocks = 0;
    C10_CUDA_CHECK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, threads, static_cast<size_t>(bytes)));
    return std::min<int64_t>(shape_.items(), static_cast<int64_t>(std::max(1, blocks)) *
                                                 at::cuda::getCurrentDeviceProperties()->multiProcessorCount);
  }

  static const T* pointer(const at::Tensor& states) {
    return states.defined() ? states.template const_data_ptr<T>() : nullptr;
  }

 private:
  /// Segments are as short as it takes to give every multiprocessor two, within 64 tokens and what shared memory holds.
  static Shape divide(const at::Tensor& k) {
    constexpr int64_t kShortest = 64, kLongest = 1024 / sizeof(T);
    const int64_t batch = k.size(0), tokens = k.size(1), heads = k.size(2) / kSide;
    const int64_t blocks = 2 * at::cuda::getCurrentDeviceProperties()->multiProcessorCount;
    const int64_t wanted = std::clamp(batch * heads * tokens / blocks, kShortest, kLongest);
    const int64_t segments = (tokens + wanted - 1) / wanted;
    const int64_t segment = ((tokens + segments - 1) / segments + kChunk - 1) / kChunk * kChunk;
    constexpr int64_t kMax = std::numeric_limits<int>::max() / 2;
    TORCH_CHECK(batch * heads * segments <= kMax, "bi_wkv6: k is too large for CUDA: ", k.sizes());
    return {batch, tokens, static_cast<int>(heads), static_cast<int>(segment),
            static_cast<int>((tokens + segment - 1) / segment)};
  }

  at::Tensor r_, k_, v_, w_, u_;
  cudaStream_t stream_;
  Shape shape_;
};

}  // namespace vrwkv::ops::cuda::wkv6
