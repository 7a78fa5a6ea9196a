#include <ATen/ops/empty_like.h>

#include "data/augment/blend.h"
#include "data/augment/level_table.h"
#include "data/augment/operations.h"
#include "data/check_image.h"

namespace vrwkv::data::augment {
namespace {

/// 0.299 R + 0.587 G + 0.114 B, in 16-bit fixed point as Pillow.
int luma(const std::uint8_t* pixel) { return (pixel[0] * 19595 + pixel[1] * 38470 + pixel[2] * 7471 + 0x8000) >> 16; }

/// Blends with the constant level `degenerate`.
at::Tensor from_level(const at::Tensor& image, int degenerate, double factor) {
  const auto narrow = static_cast<float>(factor);
  const LevelTable table = make_table([&](int level) { return blend(degenerate, level, narrow); });
  return apply_tables(image, {table, table, table});
}

at::Tensor from_gray(const at::Tensor& image, double factor) {
  at::Tensor result = at::empty_like(image);
  const auto* from = image.const_data_ptr<std::uint8_t>();
  auto* to = result.mutable_data_ptr<std::uint8_t>();
  const auto narrow = static_cast<float>(factor);
  const int64_t count = image.numel();
  for (int64_t i = 0; i < count; i += 3) {
    const int gray = luma(from + i);
    for (int64_t c = 0; c < 3; ++c) {
      to[i + c] = blend(gray, from[i + c], narrow);
    }
  }
  return result;
}

}  // namespace

at::Tensor grayscale(const at::Tensor& image) {
  check_image("grayscale", image);
  return from_gray(image, 0.0);
}

at::Tensor color(const at::Tensor& image, double factor) {
  check_image("color", image);
  check_finite("color", factor);
  return from_gray(image, factor);
}

at::Tensor contrast(const at::Tensor& image, double factor) {
  check_image("contrast", image);
  check_finite("contrast", factor);
  const auto* pixels = image.const_data_ptr<std::uint8_t>();
  const int64_t count = image.numel();
  int64_t sum = 0;
  for (int64_t i = 0; i < count; i += 3) {
    sum += luma(pixels + i);
  }
  const double mean = static_cast<double>(sum) / static_cast<double>(count / 3);
  return from_level(image, static_cast<int>(mean + 0.5), factor);
}

at::Tensor brightness(const at::Tensor& image, double factor) {
  check_image("brightness", image);
  check_finite("brightness", factor);
  return from_level(image, 0, factor);
}

}  // namespace vrwkv::data::augment
