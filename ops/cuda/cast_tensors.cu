#include <ATen/Dispatch.h>
#include <ATen/ops/_foreach_copy.h>
#include <c10/cuda/CUDAGuard.h>
#include <torch/library.h>

#include "ops/cuda/chunk.cuh"
#include "ops/cuda/dependent_launch.cuh"
#include "ops/cuda/tensor_lists.cuh"
#include "ops/cuda/vector.cuh"

namespace vrwkv::ops::cuda {
namespace {

constexpr int kVector = 4, kPieces = 4, kTile = kPieces * kVector * kListThreads;

enum List { kResults, kSources, kLists };

template <typename T>
__global__ void __launch_bounds__(kListThreads) cast_kernel(const __grid_constant__ TensorLists<kLists> lists) {
  start_in_turn();
  for_each_tile<kTile>(lists, [&](int tensor, int64_t first) {
    T* const result = static_cast<T*>(lists.data[kResults][tensor]) + first;
    const float* const source = static_cast<const float*>(lists.data[kSources][tensor]) + first;
    const int64_t left = lists.sizes[tensor] - first;
    const int thread = static_cast<int>(threadIdx.x);
    if (left >= kTile && lists.is_aligned(tensor)) {
      Vector<float, kVector> pieces[kPieces];
#pragma unroll
      for (int j = 0; j < kPieces; ++j)
        pieces[j] = load_vector<kVector>(source + (j * kListThreads + thread) * kVector);
#pragma unroll
      for (int j = 0; j < kPieces; ++j) {
        store_chunk<kVector>(result + (j * kListThreads + thread) * kVector, pieces[j].values);
      }
    } else {
      const int end = static_cast<int>(min(left, static_cast<int64_t>(kTile)));
      for (int i = thread; i < end; i += kListThreads) result[i] = static_cast<T>(source[i]);
    }
  });
}

bool is_plain(const at::Tensor& result, const at::Tensor& source) {
  return source.scalar_type() == at::kFloat && source.is_contiguous() && result.is_contiguous() &&
         source.device() == result.device();
}

void cast_tensors(at::TensorList results, at::TensorList sources) {
  std::vector<at::Tensor> plain_results, plain_sources, other_results, other_sources;
  for (size_t i = 0; i < results.size(); ++i) {
    const bool plain = is_plain(results[i], sources[i]) && results[i].device() == results[0].device() &&
                       results[i].scalar_type() == results[0].scalar_type();
    (plain ? plain_results : other_results).push_back(results[i]);
    (plain ? plain_sources : other_sources).push_back(sources[i]);
  }
  if (!other_results.empty()) at::_foreach_copy_(other_results, other_sources);
  if (plain_results.empty()) return;
  const c10::cuda::CUDAGuard guard(plain_results[0].device());
  AT_DISPATCH_REDUCED_FLOATING_TYPES(plain_results[0].scalar_type(), "cast_tensors", [&] {
    for_each_launch<kTile, kLists>({plain_results, plain_sources}, resident_blocks(cast_kernel<scalar_t>),
                                   [&](const TensorLists<kLists>& lists, int blocks) {
                                     launch_dependent(cast_kernel<scalar_t>, static_cast<unsigned>(blocks),
                                                      kListThreads, lists);
                                   });
  });
}

}  // namespace

TORCH_LIBRARY_IMPL(vrwkv, CUDA, m) { m.impl("_cast_tensors_", cast_tensors); }

}  // namespace vrwkv::ops::cuda
