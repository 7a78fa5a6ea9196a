#include <ATen/Dispatch.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/grad_mode.h>
#include <ATen/cuda/CUDAContext.h>
#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <torch/library.h>

#include <limits>

#include "ops/cuda/chunk.cuh"
#include "ops/cuda/dependent_launch.cuh"
#include "ops/cuda/vector.cuh"
#include "ops/patch_rows_check.h"
#include "ops/registered_operator.h"

namespace vrwkv::ops::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kPixels = 8;  ///< Neighbours that a thread reads and writes.

struct Geometry {
  int patch, pieces;            ///< Side of a patch, and pieces of kPixels in a row of it.
  int columns, rows, channels;  ///< Patches beside and below each other; channels.
};

/// Threads lie in the order of the result within one channel of a patch (blockIdx.y: image and row of patches,
/// blockIdx.z: channel), so a warp writes in a row, and its reads are pieces of a patch's rows, in whole sectors.
template <typename From, typename To>
__global__ void __launch_bounds__(kThreads)
    patch_rows_kernel(const From* __restrict__ images, Geometry geometry, To* __restrict__ rows) {
  start_in_turn();
  const int patch = geometry.patch, area = patch * geometry.pieces;
  const int index = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  const int column = index / area, within = index % area;
  if (column >= geometry.columns) return;
  const int y = within / geometry.pieces, x = within % geometry.pieces * kPixels;
  const int channel = static_cast<int>(blockIdx.z);
  const int64_t image = blockIdx.y / geometry.rows, row = blockIdx.y % geometry.rows;
  const int64_t width = static_cast<int64_t>(geometry.columns) * patch;
  const int64_t line = ((image * geometry.channels + channel) * geometry.rows + row) * patch + y;
  const From* const from = images + line * width + column * patch + x;
  constexpr int kAtOnce = kParameterBytes / sizeof(From) < kPixels ? kParameterBytes / sizeof(From) : kPixels;
  typename Chunk<To, kPixels>::Value values[kPixels];
#pragma unroll
  for (int i = 0; i < kPixels; i += kAtOnce) {
    const auto read = load_chunk<kAtOnce>(from + i);
#pragma unroll
    for (int c = 0; c < kAtOnce; ++c) values[i + c] = read[c];
  }
  const int64_t token = static_cast<int64_t>(blockIdx.y) * geometry.columns + column;
  store_chunk<kPixels>(rows + ((token * geometry.channels + channel) * patch + y) * patch + x, values);
}

bool is_fused(const at::Tensor& images, int64_t patch, at::ScalarType dtype) {
  const auto narrow = [](at::ScalarType type) { return type == at::kBFloat16 || type == at::kHalf; };
  constexpr int64_t kMostBlocks = 65535;  // In the second and third dimension of a grid.
  return narrow(dtype) && (images.scalar_type() == at::kFloat || images.scalar_type() == dtype) &&
         patch % kPixels == 0 && images.is_contiguous() && is_aligned(images, kParameterBytes) &&
         images.size(0) * (images.size(2) / patch) <= kMostBlocks && images.size(1) <= kMostBlocks &&
         images.size(3) * patch <= std::numeric_limits<int>::max();
}

template <typename From, typename To>
void launch(const at::Tensor& images, int64_t patch, const at::Tensor& rows) {
  const Geometry geometry{static_cast<int>(patch), static_cast<int>(patch / kPixels),
                          static_cast<int>(images.size(3) / patch), static_cast<int>(images.size(2) / patch),
                          static_cast<int>(images.size(1))};
  const int threads = geometry.columns * geometry.patch * geometry.pieces;
  const dim3 blocks((threads + kThreads - 1) / kThreads, static_cast<unsigned>(images.size(0) * geometry.rows),
                    geometry.channels);
  launch_dependent(patch_rows_kernel<From, To>, blocks, kThreads, images.const_data_ptr<From>(), geometry,
                   rows.mutable_data_ptr<To>());
}

at::Tensor patch_rows(const at::Tensor& images, int64_t patch, at::ScalarType dtype) {
  check_patch_rows(images, patch, dtype);
  if (!is_fused(images, patch, dtype)) return patch_rows_composite(images, patch, dtype);
  const c10::cuda::CUDAGuard guard(images.device());
  const int64_t batch = images.size(0), channels = images.size(1);
  at::Tensor rows = at::empty({batch, (images.size(2) / patch) * (images.size(3) / patch), channels * patch * patch},
                              images.options().dtype(dtype));
  if (rows.numel() == 0) return rows;
  AT_DISPATCH_REDUCED_FLOATING_TYPES(dtype, "patch_rows", [&] {
    if (images.scalar_type() == at::kFloat) {
      launch<float, scalar_t>(images, patch, rows);
    } else {
      launch<scalar_t, scalar_t>(images, patch, rows);
    }
  });
  return rows;
}

/// Gradients of images are for tools; the composition has them.
at::Tensor patch_rows_autograd(const at::Tensor& images, int64_t patch, at::ScalarType dtype) {
  if (at::GradMode::is_enabled() && images.requires_grad()) return patch_rows_composite(images, patch, dtype);
  const at::AutoDispatchBelowADInplaceOrView below_autograd;
  return registered_operator<patch_rows>("vrwkv::patch_rows").call(images, patch, dtype);
}

}  // namespace

TORCH_LIBRARY_IMPL(vrwkv, CUDA, m) { m.impl("patch_rows", patch_rows); }
TORCH_LIBRARY_IMPL(vrwkv, AutogradCUDA, m) { m.impl("patch_rows", patch_rows_autograd); }

}  // namespace vrwkv::ops::cuda
