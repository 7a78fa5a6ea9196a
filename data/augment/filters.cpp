#include <ATen/ops/empty_like.h>

#include <algorithm>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "data/augment/blend.h"
#include "data/augment/box_weights.h"
#include "data/augment/operations.h"
#include "data/check_image.h"
#include "data/vector_clones.h"

namespace vrwkv::data::augment {
namespace {

constexpr double kMaxRadius = 1000.0;

/// A row of sharpness() without its first and last pixel. From the 3 x 3 mean in which the centre counts five times: a
/// rounded quotient, as 13 never leaves a half.
VRWKV_VECTOR_CLONES
void sharpen_row(const std::uint8_t* __restrict from, int64_t stride, float factor, std::uint16_t* __restrict columns,
                 std::uint8_t* __restrict to) {
  for (int64_t i = 0; i < stride; ++i) {
    columns[i] = static_cast<std::uint16_t>(from[i - stride] + from[i] + from[i + stride]);
  }
  for (int64_t i = 3; i < stride - 3; ++i) {
    const auto sum = static_cast<std::uint16_t>(columns[i - 3] + columns[i] + columns[i + 3] + 4 * from[i]);
    to[i] = blend(static_cast<std::uint16_t>(2 * sum + 13) / 26, from[i], factor);
  }
}

/// One row of a blur downwards: its box reaches from behind `before` to ahead of `behind`, `first` is the highest row
/// that counts whole, and `sums` those of the whole rows, which move on by one.
VRWKV_VECTOR_CLONES
void blur_row(const std::uint8_t* __restrict before, const std::uint8_t* __restrict first,
              const std::uint8_t* __restrict behind, int64_t count, const BoxWeights& weights,
              std::uint32_t* __restrict sums, std::uint8_t* __restrict to) {
  const std::uint32_t whole = weights.whole, edge = weights.edge;
  for (int64_t i = 0; i < count; ++i) {
    const std::uint32_t bulk = sums[i] * whole + (static_cast<std::uint32_t>(before[i]) + behind[i]) * edge;
    to[i] = static_cast<std::uint8_t>((bulk + (1U << 23U)) >> 24U);
    sums[i] += static_cast<std::uint32_t>(behind[i]) - first[i];
  }
}

VRWKV_VECTOR_CLONES
void add_row(const std::uint8_t* __restrict row, int64_t count, std::uint32_t* __restrict sums) {
  for (int64_t i = 0; i < count; ++i) sums[i] += row[i];
}

using Levels = std::vector<std::uint8_t>;

/// `height` rows blurred downwards, kBoxPasses times; the first and the last are repeated outwards.
Levels blurred_down(Levels image, int64_t height, const BoxWeights& weights) {
  const int64_t stride = std::ssize(image) / height;
  Levels result(image.size());
  std::vector<std::uint32_t> sums(static_cast<std::size_t>(stride));
  for (int pass = 0; pass < kBoxPasses; ++pass) {
    const auto row = [&](int64_t y) { return image.data() + std::clamp<int64_t>(y, 0, height - 1) * stride; };
    std::ranges::fill(sums, 0);
    for (int64_t y = -weights.reach; y <= weights.reach; ++y) add_row(row(y), stride, sums.data());
    for (int64_t y = 0; y < height; ++y) {
      blur_row(row(y - weights.reach - 1), row(y - weights.reach), row(y + weights.reach + 1), stride, weights,
               sums.data(), result.data() + y * stride);
    }
    std::swap(image, result);
  }
  return image;
}

/// Rows become columns.
void transpose(const std::uint8_t* from, int64_t height, int64_t width, std::uint8_t* to) {
  for (int64_t y = 0; y < height; ++y) {
    for (int64_t x = 0; x < width; ++x) std::copy_n(from + 3 * (y * width + x), 3, to + 3 * (x * height + y));
  }
}

/// By the calling thread alone, as at::Tensor::clone would not.
at::Tensor copy_of(const at::Tensor& image) {
  at::Tensor result = at::empty_like(image);
  std::copy_n(image.const_data_ptr<std::uint8_t>(), image.numel(), result.mutable_data_ptr<std::uint8_t>());
  return result;
}

}  // namespace

at::Tensor sharpness(const at::Tensor& image, double factor) {
  check_image("sharpness", image);
  check_finite("sharpness", factor);
  at::Tensor result = copy_of(image);  // the border
  const int64_t stride = 3 * image.size(1);
  std::vector<std::uint16_t> columns(static_cast<std::size_t>(stride));
  for (int64_t y = 1; y < image.size(0) - 1; ++y) {
    sharpen_row(image.const_data_ptr<std::uint8_t>() + y * stride, stride, static_cast<float>(factor), columns.data(),
                result.mutable_data_ptr<std::uint8_t>() + y * stride);
  }
  return result;
}

at::Tensor gaussian_blur(const at::Tensor& image, double radius) {
  check_image("gaussian_blur", image);
  if (!(radius >= 0.0 && radius <= kMaxRadius)) {
    throw std::invalid_argument("gaussian_blur: expected a radius from 0 to 1000, got " + std::to_string(radius));
  }
  if (radius == 0.0) {
    return copy_of(image);
  }
  const BoxWeights weights = box_of(radius);
  const int64_t height = image.size(0), width = image.size(1);
  Levels levels(static_cast<std::size_t>(image.numel())), turned(levels.size());
  transpose(image.const_data_ptr<std::uint8_t>(), height, width, turned.data());
  turned = blurred_down(std::move(turned), width, weights);
  transpose(turned.data(), width, height, levels.data());
  levels = blurred_down(std::move(levels), height, weights);
  at::Tensor result = at::empty_like(image);
  std::ranges::copy(levels, result.mutable_data_ptr<std::uint8_t>());
  return result;
}

}  // namespace vrwkv::data::augment
