#include <ATen/Dispatch.h>
#include <ATen/cuda/CUDAContext.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/util/accumulate.h>
#include <torch/library.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "ops/cuda/chunk.cuh"
#include "ops/cuda/column_sums.cuh"
#include "ops/cuda/dependent_launch.cuh"
#include "ops/cuda/sums_in_float.cuh"
#include "ops/cuda/vector.cuh"

namespace vrwkv::ops::cuda {
namespace {

constexpr int kThreads = 256, kWarp = 32;
constexpr int kAhead = 8;  ///< Rows that a thread reads at once.

/// x: [matrices, rows, columns]; of each matrix, gridDim.y parts of the rows are added up, times
/// factor: out [matrices, parts, columns]. A thread has kVector columns; `kLanes` threads share their rows.
template <typename T, int kVector, int kLanes>
__global__ void __launch_bounds__(kThreads)
    sums_kernel(const T* __restrict__ x, int64_t rows, int64_t columns, float factor, float* __restrict__ out) {
  start_in_turn();
  constexpr int kBeside = kThreads / kLanes;
  const int beside = static_cast<int>(threadIdx.x) % kBeside, lane = static_cast<int>(threadIdx.x) / kBeside;
  const int64_t column = (static_cast<int64_t>(blockIdx.x) * kBeside + beside) * kVector;
  const int64_t part = blockIdx.y, parts = gridDim.y, matrix = blockIdx.z;
  const int64_t begin = rows * part / parts, end = rows * (part + 1) / parts;
  float sums[kVector] = {};
  if (column < columns) {
    const T* const from = x + matrix * rows * columns + column;
#pragma unroll 1
    for (int64_t first = begin + lane; first < end; first += kAhead * kLanes) {
      Chunk<T, kVector> ahead[kAhead];
      // Those past the end read the last row, and are not added.
#pragma unroll
      for (int i = 0; i < kAhead; ++i)
        ahead[i] = load_chunk<kVector>(from + min(first + i * kLanes, end - 1) * columns);
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        if (first + i * kLanes < end) {
#pragma unroll
          for (int c = 0; c < kVector; ++c) sums[c] += ahead[i][c];
        }
      }
    }
  }
  if constexpr (kLanes > 1) {
    static_assert(kLanes % (kWarp / kBeside) == 0);
    constexpr int kWarps = kThreads / kWarp;
    __shared__ float shared[kWarps][kVector][kBeside];
#pragma unroll
    for (int c = 0; c < kVector; ++c) {
      for (int offset = kWarp / 2; offset >= kBeside; offset /= 2) {
        sums[c] += __shfl_xor_sync(0xffffffffU, sums[c], offset);
      }
      if (threadIdx.x % kWarp < kBeside) shared[threadIdx.x / kWarp][c][beside] = sums[c];
    }
    __syncthreads();
    if (lane != 0) return;
#pragma unroll
    for (int c = 0; c < kVector; ++c) {
      sums[c] = 0;
#pragma unroll
      for (int warp = 0; warp < kWarps; ++warp) sums[c] += shared[warp][c][beside];
    }
  }
  if (column >= columns) return;
  float* const to = out + (matrix * parts + part) * columns + column;
#pragma unroll
  for (int c = 0; c < kVector; ++c) to[c] = sums[c] * factor;
}

template <typename T, int kVector, int kLanes>
at::Tensor launch(const at::Tensor& x, int64_t matrices, int64_t rows, int64_t columns, float factor) {
  constexpr int kBeside = kThreads / kLanes, kWaves = 4;
  const int64_t across = (columns + kBeside * kVector - 1) / (kBeside * kVector);
  // As many parts as give the device some blocks, of rows enough for a turn each.
  const int64_t wanted = kWaves * at::cuda::getCurrentDeviceProperties()->multiProcessorCount / (across * matrices);
  const int64_t parts = std::clamp<int64_t>(wanted, 1, std::max<int64_t>(rows / (kLanes * kAhead / 2), 1));
  TORCH_CHECK(across <= std::numeric_limits<int>::max() && parts <= 65535 && matrices <= 65535,
              "sums_in_float: x is too large for CUDA: ", x.sizes());
  at::Tensor sums = at::empty({matrices, parts, columns}, x.options().dtype(at::kFloat));
  const dim3 blocks(static_cast<unsigned>(across), static_cast<unsigned>(parts), static_cast<unsigned>(matrices));
  launch_dependent(sums_kernel<T, kVector, kLanes>, blocks, kThreads, x.const_data_ptr<T>(), rows, columns, factor,
                   sums.mutable_data_ptr<float>());
  return parts == 1 ? sums.squeeze(1) : column_sums(sums, 1);
}

}  // namespace

at::Tensor sums_in_float(const at::Tensor& x, int64_t dim, float factor) {
  TORCH_CHECK(dim >= 0 && dim < x.dim() && x.is_contiguous(),
              "sums_in_float: x must be contiguous and have a dimension ", dim, ", got ", x.sizes());
  const c10::cuda::CUDAGuard guard(x.device());
  const auto sizes = x.sizes();
  const auto at_dim = static_cast<size_t>(dim);
  const int64_t matrices = c10::multiply_integers(sizes.slice(0, at_dim)), rows = sizes[at_dim];
  const int64_t columns = c10::multiply_integers(sizes.slice(at_dim + 1));
  std::vector<int64_t> kept = sizes.vec();
  kept.erase(kept.begin() + dim);
  if (x.numel() == 0) return at::zeros(kept, x.options().dtype(at::kFloat));
  constexpr int kWide = 8, kFewRows = 16, kManyLanes = 32;
  at::Tensor sums;
  AT_DISPATCH_REDUCED_FLOATING_TYPES(x.scalar_type(), "sums_in_float", [&] {
    if (columns % kWide != 0 || !is_aligned(x, kWide * sizeof(scalar_t))) {
      sums = launch<scalar_t, 1, kManyLanes>(x, matrices, rows, columns, factor);
    } else if (rows <= kFewRows) {
      sums = launch<scalar_t, kWide, 1>(x, matrices, rows, columns, factor);
    } else {
      sums = launch<scalar_t, kWide, kManyLanes>(x, matrices, rows, columns, factor);
    }
  });
  return sums.view(kept);
}

at::Tensor plain_sums(const at::Tensor& x, int64_t dim) { return sums_in_float(x, dim); }

// Registered for the tests.
TORCH_LIBRARY_FRAGMENT(vrwkv, m) { m.def("_sums_in_float(Tensor x, int dim) -> Tensor"); }
TORCH_LIBRARY_IMPL(vrwkv, CUDA, m) { m.impl("_sums_in_float", plain_sums); }

}  // namespace vrwkv::ops::cuda
