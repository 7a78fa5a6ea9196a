#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>

#include <algorithm>
#include <cstdint>
#include <vector>

// Work on the elements of many tensors in one launch. The tensors' places are an argument of the kernel, so that
// nothing is copied to the device beforehand and a CUDA graph keeps them.

namespace vrwkv::ops::cuda {

constexpr int kListThreads = 256;

/// `kLists` lists of contiguous tensors: the i-th ones have sizes[i] elements each. The elements are cut into tiles, of
/// which each block takes an equal share in a row, whatever tensors they are of.
template <int kLists>
struct TensorLists {
  /// Of one launch. An argument may have 32,764 bytes; twelve layers have some 220 parameters.
  static constexpr int kMost = 512;

  void* data[kLists][kMost];
  int64_t sizes[kMost];
  int first_tile[kMost + 1];  ///< And behind the last tensor the number of all tiles.
  int count = 0;

  /// Whether the i-th tensors can all be read 16 bytes at a time.
  __device__ __forceinline__ bool is_aligned(int i) const {
    uintptr_t bits = 0;
#pragma unroll
    for (int list = 0; list < kLists; ++list) bits |= reinterpret_cast<uintptr_t>(data[list][i]);
    return bits % 16 == 0;
  }
};

/// Calls visit(tensor, first element) for each tile of this block.
template <int kTile, int kLists, typename F>
__device__ __forceinline__ void for_each_tile(const TensorLists<kLists>& lists, const F& visit) {
  const int64_t tiles = lists.first_tile[lists.count];
  int tile = static_cast<int>(tiles * blockIdx.x / gridDim.x);
  const int end = static_cast<int>(tiles * (blockIdx.x + 1) / gridDim.x);
  if (tile == end) return;
  int tensor = 0;
  for (int behind = lists.count; behind - tensor > 1;) {
    const int middle = (tensor + behind) / 2;
    if (lists.first_tile[middle] <= tile) {
      tensor = middle;
    } else {
      behind = middle;
    }
  }
#pragma unroll 1
  for (; tile < end; ++tile) {
    if (tile == lists.first_tile[tensor + 1]) ++tensor;  // None is empty.
    visit(tensor, static_cast<int64_t>(tile - lists.first_tile[tensor]) * kTile);
  }
}

/// Blocks that the device holds at once of a kernel of kListThreads threads.
template <typename Kernel>
int resident_blocks(Kernel* kernel) {
  int blocks = 0;
  C10_CUDA_CHECK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, kListThreads, 0));
  return std::max(blocks, 1) * at::cuda::getCurrentDeviceProperties()->multiProcessorCount;
}

/// Calls launch(lists, blocks) for all elements of `tensors`, contiguous ones of one device, which are given list by
/// list and whose i-th ones have equal sizes: as often as the lists are longer than an argument holds.
template <int kTile, int kLists, typename F>
void for_each_launch(const std::vector<at::Tensor> (&tensors)[kLists], int most_blocks, const F& launch) {
  TensorLists<kLists> lists;
  const auto finish = [&launch, &lists, most_blocks] {
    if (lists.count > 0) launch(lists, std::min(most_blocks, lists.first_tile[lists.count]));
    lists.count = 0;
  };
  lists.first_tile[0] = 0;
  for (size_t i = 0; i < tensors[0].size(); ++i) {
    const int64_t size = tensors[0][i].numel();
    if (size == 0) continue;
    for (int list = 0; list < kLists; ++list) {
      const at::Tensor& tensor = tensors[list][i];
      TORCH_INTERNAL_ASSERT(tensor.numel() == size && tensor.is_contiguous());
      lists.data[list][lists.count] = tensor.mutable_data_ptr();
    }
    lists.sizes[lists.count] = size;
    lists.first_tile[lists.count + 1] = lists.first_tile[lists.count] + static_cast<int>((size + kTile - 1) / kTile);
    if (++lists.count == TensorLists<kLists>::kMost) finish();
  }
  finish();
}

}  // namespace vrwkv::ops::cuda
