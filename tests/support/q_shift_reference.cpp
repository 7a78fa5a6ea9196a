#include "tests/support/q_shift_reference.h"

#include <ATen/ATen.h>

namespace vrwkv::testing {

at::Tensor q_shift_reference(const at::Tensor& x, int64_t height, int64_t width, int64_t group) {
  const at::Tensor grid = x.unflatten(1, {height, width});
  const at::Tensor padded = at::constant_pad_nd(grid, {0, 0, 1, 1, 1, 1});
  const int64_t bounds[] = {0, group / 4, group / 2, group * 3 / 4, group};
  const int64_t rows[] = {1, 1, 0, 2}, columns[] = {0, 2, 1, 1};
  std::vector<at::Tensor> parts;
  for (int64_t first = 0; first < x.size(2); first += group) {
    for (int q = 0; q < 4; ++q) {
      const at::Tensor moved = padded.slice(1, rows[q], rows[q] + height).slice(2, columns[q], columns[q] + width);
      parts.push_back(moved.slice(3, first + bounds[q], first + bounds[q + 1]));
    }
  }
  return parts.empty() ? at::zeros_like(x) : at::cat(parts, 3).flatten(1, 2);
}

}  // namespace vrwkv::testing
