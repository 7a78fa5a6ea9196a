#include <ATen/Functions.h>
#include <c10/cuda/CUDAGuard.h>
#include <torch/library.h>

#include <algorithm>
#include <limits>
#include <type_traits>

#include "ops/backward_operators.h"
#include "ops/cuda/hopper/launch.cuh"
#include "ops/cuda/hopper/weight_gradients.h"
#include "ops/cuda/hopper/weight_gradients_kernel.cuh"

namespace vrwkv::ops::cuda::hopper {
namespace {

constexpr size_t kMatrices = std::extent_v<decltype(WeightGradients::matrices)>;

/// A matrix gy^T x, or where that one is wide its transpose: left^T right.
struct Factors {
  at::Tensor left, right;
  bool transposed;

  Factors(const at::Tensor& gy, const at::Tensor& x) : left(gy), right(x), transposed(gy.size(1) < x.size(1)) {
    if (transposed) std::swap(left, right);
  }
};

/// Blocks for each of a matrix's tiles, one on a multiprocessor, if there are kMatrices of such matrices; none if the
/// tiles do not cover the matrix or leave a tenth of the device idle.
template <typename Tile>
int64_t splits_of(int64_t rows, int64_t columns) {
  if (rows % Tile::kRowsOfTile != 0 || columns % Tile::kColumnsOfTile != 0) return 0;
  const int64_t tiles = rows / Tile::kRowsOfTile * (columns / Tile::kColumnsOfTile) * static_cast<int64_t>(kMatrices);
  const int64_t processors = at::cuda::getCurrentDeviceProperties()->multiProcessorCount;
  const int64_t splits = processors / tiles;
  return 10 * splits * tiles > 9 * processors ? splits : 0;
}

template <typename Tile>
std::vector<at::Tensor> run(const std::vector<Factors>& factors, int64_t splits) {
  const int rows = static_cast<int>(factors[0].left.size(1)), columns = static_cast<int>(factors[0].right.size(1));
  const int64_t slabs = (factors[0].left.size(0) + kSlab - 1) / kSlab;
  splits = std::min(splits, slabs);
  const int across = columns / Tile::kColumnsOfTile, tiles = rows / Tile::kRowsOfTile * across;
  const int64_t blocks = static_cast<int64_t>(factors.size()) * tiles * splits;
  const auto options = factors[0].left.options().dtype(at::kFloat);
  const at::Tensor parts = at::empty({splits > 1 ? blocks * Tile::kVectors * 4 : 0}, options);
  std::vector<at::Tensor> gradients;
  WeightGradients product{{},    parts.mutable_data_ptr<float>(), across,
                          tiles, static_cast<int>(splits),        static_cast<int>(slabs)};
  for (const auto& [left, right, transposed] : factors) {
    gradients.push_back(at::empty({transposed ? columns : rows, transposed ? rows : columns}, options));
    product.matrices[gradients.size() - 1] = {
        map_of_rows(left, kSlab, Tile::kGroups), map_of_rows(right, kSlab, Tile::kColumnSlabs),
        gradients.back().mutable_data_ptr<float>(), transposed ? 1 : columns, transposed ? rows : 1};
  }
  launch(weight_gradients_kernel<Tile>,
         {.blocks = dim3(static_cast<unsigned>(blocks)),
          .threads = Tile::kThreads,
          .shared_bytes = Tile::kShared,
          .together = splits > 1},
         product);
  return gradients;
}

/// In one kernel, if there is one for such sizes; else nothing.
std::vector<at::Tensor> fused(at::TensorList gys, at::TensorList xs) {
  constexpr int64_t kMax = std::numeric_limits<int>::max();
  const int64_t tokens = gys[0].size(0);
  if (gys.size() > kMatrices || tokens == 0 || tokens > kMax - kSlab || !has_wgmma(gys[0].device())) return {};
  std::vector<Factors> factors;
  for (size_t i = 0; i < gys.size(); ++i) {
    if (gys[i].scalar_type() != at::kBFloat16 || xs[i].scalar_type() != at::kBFloat16) return {};
    factors.emplace_back(ready(gys[i], at::kBFloat16), ready(xs[i], at::kBFloat16));
    if (factors[i].left.sizes() != factors[0].left.sizes() || factors[i].right.sizes() != factors[0].right.sizes()) {
      return {};
    }
  }
  const int64_t rows = factors[0].left.size(1), columns = factors[0].right.size(1);
  // With few columns the bytes of the tokens set the time; smaller tiles then leave less to be added up.
  if (columns == GradientTile<2>::kColumnsOfTile) {
    const int64_t splits = splits_of<GradientTile<2>>(rows, columns);
    return splits > 0 ? run<GradientTile<2>>(factors, splits) : std::vector<at::Tensor>();
  }
  const int64_t splits = splits_of<GradientTile<3>>(rows, columns);
  return splits > 0 ? run<GradientTile<3>>(factors, splits) : std::vector<at::Tensor>();
}

}  // namespace

std::vector<at::Tensor> weight_gradients(at::TensorList gys, at::TensorList xs) {
  TORCH_CHECK(gys.size() == xs.size(), "weight_gradients: as many inputs as gradients expected, got ", xs.size(),
              " and ", gys.size());
  for (size_t i = 0; i < gys.size(); ++i) {
    TORCH_CHECK(gys[i].dim() == 2 && xs[i].dim() == 2 && gys[i].size(0) == xs[i].size(0) &&
                    gys[i].device() == gys[0].device() && xs[i].device() == gys[0].device(),
                "weight_gradients: gradients [M, N] and inputs [M, K] on one device expected, got ", gys[i].sizes(),
                " and ", xs[i].sizes());
  }
  if (gys.empty()) return {};
  const c10::cuda::CUDAGuard guard(gys[0].device());
  const std::vector<at::Tensor> gradients = fused(gys, xs);
  return gradients.empty() ? linear_weight_gradients(gys, xs) : gradients;
}

// Registered for the tests.
TORCH_LIBRARY_FRAGMENT(vrwkv, m) { m.def("_weight_gradients(Tensor[] gys, Tensor[] xs) -> Tensor[]"); }
TORCH_LIBRARY_IMPL(vrwkv, CUDA, m) { m.impl("_weight_gradients", weight_gradients); }

}  // namespace vrwkv::ops::cuda::hopper
