#include <ATen/ops/empty_like.h>

#include <stdexcept>
#include <string>
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

/// One line of `count` pixels, `step` bytes apart, blurred kBoxPasses times in place; the ends are repeated outwards.
class LineBlur {
 public:
  LineBlur(const BoxWeights& weights, int64_t count)
      : weights_(weights), count_(count), padded_(static_cast<std::size_t>(count + 2 * (weights.reach + 1))) {}

  void operator()(std::uint8_t* line, int64_t step) {
    for (int pass = 0; pass < kBoxPasses; ++pass) {
      pad(line, step);
      blur(line, step);
    }
  }

 private:
  void pad(const std::uint8_t* line, int64_t step) {
    const auto margin = weights_.reach + 1;
    auto* to = padded_.data();
    for (int64_t i = 0; i < margin; ++i) to[i] = line[0];
    for (int64_t i = 0; i < count_; ++i) to[margin + i] = line[i * step];
    for (int64_t i = 0; i < margin; ++i) to[margin + count_ + i] = line[(count_ - 1) * step];
  }

  void blur(std::uint8_t* line, int64_t step) const {
    const std::uint32_t* window = padded_.data();  // its first element is the left edge of pixel 0's box
    const int64_t width = 2 * weights_.reach + 1;
    std::uint32_t sum = 0;
    for (int64_t i = 1; i <= width; ++i) sum += window[i];
    for (int64_t x = 0; x < count_; ++x, ++window) {
      const std::uint32_t bulk = sum * weights_.whole + (window[0] + window[width + 1]) * weights_.edge;
      line[x * step] = static_cast<std::uint8_t>((bulk + (1U << 23U)) >> 24U);
      sum += window[width + 1] - window[1];
    }
  }

  BoxWeights weights_;
  int64_t count_;
  std::vector<std::uint32_t> padded_;
};

}  // namespace

at::Tensor sharpness(const at::Tensor& image, double factor) {
  check_image("sharpness", image);
  check_finite("sharpness", factor);
  at::Tensor result = image.clone();  // the border
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
  at::Tensor result = image.clone();
  if (radius == 0.0) {
    return result;
  }
  const BoxWeights weights = box_of(radius);
  const int64_t height = image.size(0);
  const int64_t stride = 3 * image.size(1);
  auto* pixels = result.mutable_data_ptr<std::uint8_t>();
  LineBlur along_row(weights, image.size(1));
  for (int64_t y = 0; y < height; ++y) {
    for (int64_t c = 0; c < 3; ++c) along_row(pixels + y * stride + c, 3);
  }
  LineBlur along_column(weights, height);
  for (int64_t i = 0; i < stride; ++i) {
    along_column(pixels + i, stride);
  }
  return result;
}

}  // namespace vrwkv::data::augment
