#include "data/image_sheet.h"

#include <ATen/ATen.h>

namespace vrwkv::data {

at::Tensor image_sheet(const at::Tensor& cells) {
  constexpr int64_t kMargin = 4;
  constexpr int64_t kWhite = 255;
  const int64_t rows = cells.size(0), columns = cells.size(1), height = cells.size(2), width = cells.size(3);
  const int64_t down = height + kMargin, right = width + kMargin;
  at::Tensor sheet = at::full({rows * down + kMargin, columns * right + kMargin, 3}, kWhite, at::kByte);
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t column = 0; column < columns; ++column) {
      sheet.narrow(0, kMargin + row * down, height)
          .narrow(1, kMargin + column * right, width)
          .copy_(cells[row][column]);
    }
  }
  return sheet;
}

}  // namespace vrwkv::data
