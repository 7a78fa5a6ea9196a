#include <ATen/Dispatch.h>
#include <ATen/Functions.h>
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/util/accumulate.h>
#include <torch/library.h>

#include <limits>
#include <vector>

#include "ops/cuda/column_sums.cuh"
#include "ops/cuda/dependent_launch.cuh"

namespace vrwkv::ops::cuda {
namespace {

/// out [n, columns] from parts [n, rows, columns]; blockIdx.y is the matrix.
template <int kThreads, typename T>
__global__ void __launch_bounds__(kThreads)
    column_sums_kernel(const T* __restrict__ parts, int64_t rows, int64_t columns, T* __restrict__ out) {
  const int64_t matrix = blockIdx.y;
  T sums[1];
  start_in_turn();
  if (sum_rows<1, kThreads>(parts + matrix * rows * columns, rows, columns, sums))
    out[matrix * columns + sum_column()] = sums[0];
}

}  // namespace

at::Tensor column_sums(const at::Tensor& parts, int64_t dim) {
  TORCH_CHECK(dim >= 0 && dim < parts.dim() && parts.is_contiguous(),
              "column_sums: parts must be contiguous and have a dimension ", dim, ", got ", parts.sizes());
  const c10::cuda::CUDAGuard guard(parts.device());
  const auto sizes = parts.sizes();
  const auto at_dim = static_cast<size_t>(dim);
  const int64_t matrices = c10::multiply_integers(sizes.slice(0, at_dim));
  const int64_t columns = c10::multiply_integers(sizes.slice(at_dim + 1));
  std::vector<int64_t> kept = sizes.vec();
  kept.erase(kept.begin() + dim);
  at::Tensor sums = at::empty(kept, parts.options());
  if (sums.numel() == 0) return sums;
  const int64_t blocks = (columns + kSumColumns - 1) / kSumColumns;
  TORCH_CHECK(matrices <= 65535 && blocks <= std::numeric_limits<int>::max(),
              "column_sums: parts are too large for CUDA: ", sizes);
  AT_DISPATCH_FLOATING_TYPES(parts.scalar_type(), "column_sums", [&] {
    const auto launch = [&](auto threads) {
      launch_dependent(column_sums_kernel<threads(), scalar_t>,
                       dim3(static_cast<unsigned>(blocks), static_cast<unsigned>(matrices)), threads(),
                       parts.const_data_ptr<scalar_t>(), sizes[at_dim], columns, sums.mutable_data_ptr<scalar_t>());
    };
    if (sizes[at_dim] <= kFewSumThreads / kSumColumns * kSumsAhead) {
      launch(std::integral_constant<int, kFewSumThreads>());
    } else {
      launch(std::integral_constant<int, kSumThreads>());
    }
  });
  return sums;
}

// Registered for the tests.
TORCH_LIBRARY_FRAGMENT(vrwkv, m) { m.def("_column_sums(Tensor parts, int dim) -> Tensor"); }
TORCH_LIBRARY_IMPL(vrwkv, CUDA, m) { m.impl("_column_sums", column_sums); }

}  // namespace vrwkv::ops::cuda
