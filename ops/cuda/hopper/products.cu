// The products of linear layers on CUDA: by a kernel of our own where wgmma and the sizes allow it and it is faster,
// else by cuBLAS.

#include <ATen/Functions.h>
#include <c10/cuda/CUDAGuard.h>
#include <torch/library.h>

#include <algorithm>
#include <limits>

#include "ops/cuda/hopper/launch.cuh"
#include "ops/cuda/hopper/product_kernel.cuh"
#include "ops/products.h"

namespace vrwkv::ops::cuda::hopper {
namespace {

constexpr int64_t kLeastChannels = 256;
constexpr int64_t kLeastTiles = 4;  ///< Wide ones, for each multiprocessor.

int multiprocessors() { return at::cuda::getCurrentDeviceProperties()->multiProcessorCount; }

/// As the copy engine takes it: a view of [..., C] as a matrix if its rows are contiguous and far enough apart.
at::Tensor as_matrix(const at::Tensor& tensor) {
  const at::Tensor matrix = tensor.flatten(0, -2);
  const bool has_rows = matrix.stride(1) == 1 && matrix.stride(0) >= matrix.size(1) && matrix.stride(0) % kVector == 0;
  return has_rows && is_aligned(matrix, 16) ? matrix : aligned(matrix, 16);
}

/// Whether the kernel takes these, all of one size.
bool serves(at::TensorList rows, at::TensorList weights, bool transposed) {
  if (rows.empty() || rows.size() > kMostProducts || rows.size() != weights.size()) return false;
  const at::Tensor &x = rows[0], &weight = weights[0];
  if (x.dim() < 2 || weight.dim() != 2 || x.scalar_type() != at::kBFloat16 || !has_wgmma(x.device())) return false;
  const int64_t channels = weight.size(transposed ? 0 : 1), width = weight.size(transposed ? 1 : 0);
  if (channels % kSlab != 0 || width % kSlab != 0 || std::min(channels, width) < kLeastChannels) return false;
  const int64_t count = x.numel() / channels, all = count * static_cast<int64_t>(rows.size());
  if (all / ProductBlock::kTileRows * width / (ProductBlock::kWideParts * kSlab) < kLeastTiles * multiprocessors() ||
      all * std::max(channels, width) / kSlab > std::numeric_limits<int>::max()) {
    return false;
  }
  for (size_t i = 0; i < rows.size(); ++i) {
    if (rows[i].sizes() != x.sizes() || rows[i].scalar_type() != at::kBFloat16 || rows[i].size(-1) != channels ||
        !is_matrix(weights[i], weight.size(0), weight.size(1), x) || rows[i].device() != x.device() ||
        weights[i].scalar_type() != at::kBFloat16) {
      return false;
    }
  }
  return true;
}

/// Tiles of one kind beside each other, for all of `width` columns.
int tiles_beside(int width, int parts) { return (width + parts * kSlab - 1) / (parts * kSlab); }

/// Shares the bands of rows of all products among wide and narrow tiles so that the block with most work, which takes
/// every `blocks`-th tile, has as little as there can be. A narrow tile, with 3/4 of a wide one's columns, takes
/// kNarrowCost of its time.
void share_bands(Products& products, int bands, int blocks) {
  constexpr double kNarrowCost = 0.8;
  const int wide = tiles_beside(products.width, ProductBlock::kWideParts);
  const int narrow = tiles_beside(products.width, ProductBlock::kNarrowParts);
  double least = std::numeric_limits<double>::infinity();
  for (int wide_bands = bands; wide_bands >= 0; --wide_bands) {
    const int wide_tiles = wide_bands * wide, narrow_tiles = (bands - wide_bands) * narrow;
    const int rounds = wide_tiles / blocks, more = wide_tiles % blocks;  // So many blocks have one wide tile more.
    const int of_others = (narrow_tiles + blocks - 1) / blocks;
    const int of_those = (std::max(more + narrow_tiles - blocks, 0) + blocks - 1) / blocks;
    const double cost = rounds + std::max(of_others * kNarrowCost, more > 0 ? 1 + of_those * kNarrowCost : 0.0);
    if (cost >= least) continue;
    least = cost;
    products.wide_bands = wide_bands;
    products.wide_tiles = wide_tiles;
    products.tiles = wide_tiles + narrow_tiles;
  }
}

/// Launches products of one size. Matrices in bfloat16 as map_of_rows() takes them; sizes of no more than 31 bits.
///
/// @param rows    [count, C], 1 to kMostProducts of them.
/// @param weights [D, C], or as_it_lies [C, D].
/// @param out     [count, D], not empty.
template <bool as_it_lies>
void launch_products(at::TensorList rows, at::TensorList weights, at::TensorList out) {
  using Block = ProductBlock;
  Products products{};
  for (size_t i = 0; i < rows.size(); ++i) {
    products.maps[i] = {map_of_rows(rows[i], Block::kTileRows, 1), map_of_rows(weights[i], kSlab, 1),
                        map_of_rows(out[i], kRows, 1)};
  }
  products.width = static_cast<int>(out[0].size(1));
  products.slabs = static_cast<int>(rows[0].size(1) / kSlab);
  products.bands = static_cast<int>((out[0].size(0) - 1) / Block::kTileRows + 1);
  share_bands(products, products.bands * static_cast<int>(rows.size()), multiprocessors());
  const auto blocks = static_cast<unsigned>(std::min(products.tiles, multiprocessors()));
  launch(product_kernel<as_it_lies>, {blocks, Block::kThreads, Block::kShared}, products);
}

std::vector<at::Tensor> products(at::TensorList rows, at::TensorList weights, bool transposed) {
  if (!serves(rows, weights, transposed)) return products_one_by_one(rows, weights, transposed);
  const c10::cuda::CUDAGuard guard(rows[0].device());
  std::vector<int64_t> sizes = rows[0].sizes().vec();
  sizes.back() = weights[0].size(transposed ? 1 : 0);
  std::vector<at::Tensor> left, right, results, out;
  for (size_t i = 0; i < rows.size(); ++i) {
    left.push_back(as_matrix(rows[i]));
    right.push_back(as_matrix(weights[i]));
    results.push_back(at::empty(sizes, rows[0].options()));
    out.push_back(results.back().flatten(0, -2));
  }
  if (transposed) {
    launch_products<true>(left, right, out);
  } else {
    launch_products<false>(left, right, out);
  }
  return results;
}

}  // namespace

TORCH_LIBRARY_IMPL(vrwkv, CUDA, m) { m.impl("_products", products); }

}  // namespace vrwkv::ops::cuda::hopper
