#include <ATen/ops/empty_like.h>

#include <vector>

#include "data/augment/blend.h"
#include "data/augment/level_table.h"
#include "data/augment/operations.h"
#include "data/check_image.h"
#include "data/vector_clones.h"

namespace vrwkv::data::augment {
namespace {

/// 0.299 R + 0.587 G + 0.114 B of each pixel, in 16-bit fixed point as Pillow.
VRWKV_VECTOR_CLONES
void find_luma(const std::uint8_t* __restrict pixels, int64_t count, std::uint8_t* __restrict luma) {
  for (int64_t i = 0; i < count; ++i) {
    const std::uint8_t* pixel = pixels + 3 * i;
    luma[i] = static_cast<std::uint8_t>((pixel[0] * 19595 + pixel[1] * 38470 + pixel[2] * 7471 + 0x8000) >> 16);
  }
}

VRWKV_VECTOR_CLONES
int64_t sum_of(const std::uint8_t* levels, int64_t count) {
  int64_t sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += levels[i];
  return sum;
}

/// Each of `count` levels three times.
VRWKV_VECTOR_CLONES
void triple(const std::uint8_t* __restrict gray, int64_t count, std::uint8_t* __restrict to) {
  for (int64_t i = 0; i < count; ++i) to[3 * i] = to[3 * i + 1] = to[3 * i + 2] = gray[i];
}

/// `to` holds the degenerate levels and receives the result.
VRWKV_VECTOR_CLONES
void blend_into(std::uint8_t* __restrict to, const std::uint8_t* __restrict from, int64_t count, float factor) {
  for (int64_t i = 0; i < count; ++i) to[i] = blend(to[i], from[i], factor);
}

/// Blends with the constant level `degenerate`.
at::Tensor from_level(const at::Tensor& image, int degenerate, double factor) {
  const auto narrow = static_cast<float>(factor);
  const LevelTable table = make_table([&](int level) { return blend(degenerate, level, narrow); });
  return apply_tables(image, {table, table, table});
}

/// The grey level of each pixel.
std::vector<std::uint8_t> luma_of(const at::Tensor& image) {
  std::vector<std::uint8_t> luma(static_cast<std::size_t>(image.numel() / 3));
  find_luma(image.const_data_ptr<std::uint8_t>(), image.numel() / 3, luma.data());
  return luma;
}

}  // namespace

at::Tensor grayscale(const at::Tensor& image) {
  check_image("grayscale", image);
  at::Tensor result = at::empty_like(image);
  const std::vector<std::uint8_t> luma = luma_of(image);
  triple(luma.data(), std::ssize(luma), result.mutable_data_ptr<std::uint8_t>());
  return result;
}

at::Tensor color(const at::Tensor& image, double factor) {
  check_image("color", image);
  check_finite("color", factor);
  at::Tensor result = grayscale(image);
  blend_into(result.mutable_data_ptr<std::uint8_t>(), image.const_data_ptr<std::uint8_t>(), image.numel(),
             static_cast<float>(factor));
  return result;
}

at::Tensor contrast(const at::Tensor& image, double factor) {
  check_image("contrast", image);
  check_finite("contrast", factor);
  const std::vector<std::uint8_t> luma = luma_of(image);
  const double mean = static_cast<double>(sum_of(luma.data(), std::ssize(luma))) / static_cast<double>(luma.size());
  return from_level(image, static_cast<int>(mean + 0.5), factor);
}

at::Tensor brightness(const at::Tensor& image, double factor) {
  check_image("brightness", image);
  check_finite("brightness", factor);
  return from_level(image, 0, factor);
}

}  // namespace vrwkv::data::augment
