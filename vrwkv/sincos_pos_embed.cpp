#include "vrwkv/sincos_pos_embed.h"

#include <ATen/Functions.h>

namespace vrwkv {
namespace {

/// [n] positions -> [n, 2 w] sines, then cosines.
torch::Tensor waves(const torch::Tensor& positions, const torch::Tensor& frequencies) {
  const torch::Tensor angles = at::outer(positions, frequencies);
  return at::cat({angles.sin(), angles.cos()}, 1);
}

}  // namespace

torch::Tensor sincos_pos_embed(Grid grid, int64_t channels) {
  TORCH_CHECK(channels > 0 && channels % 4 == 0, "sincos_pos_embed: channels must be a multiple of 4, got ", channels);
  constexpr double kLongest = 10000;
  const int64_t quarter = channels / 4;
  const torch::Tensor steps = at::arange(quarter, at::kDouble) / static_cast<double>(quarter);
  const torch::Tensor frequencies = at::pow(kLongest, -steps);
  const torch::Tensor columns = waves(at::arange(grid.width, at::kDouble), frequencies);
  const torch::Tensor rows = waves(at::arange(grid.height, at::kDouble), frequencies);
  const torch::Tensor all =
      at::cat({columns.unsqueeze(0).expand({grid.height, -1, -1}), rows.unsqueeze(1).expand({-1, grid.width, -1})}, 2);
  return all.flatten(0, 1).unsqueeze(0).to(at::kFloat);
}

}  // namespace vrwkv
