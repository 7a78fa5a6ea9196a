#include "data/resize.h"

#include <ATen/ops/_upsample_bicubic2d_aa.h>
#include <ATen/ops/_upsample_bilinear2d_aa.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <string>

#include "data/check_image.h"
#include "data/image_codec.h"
#include "data/vector_clones.h"

namespace vrwkv::data {
namespace {

constexpr int64_t kChannels = 3;

void check_size(const char* function, int64_t height, int64_t width) {
  if (height < 1 || width < 1) {
    throw std::invalid_argument(std::string(function) + ": the result's sides must be positive, got height " +
                                std::to_string(height) + " and width " + std::to_string(width));
  }
}

/// [H, W, 3] seen as [1, 3, H, W] (channels last).
at::Tensor as_batch(const at::Tensor& image) { return image.permute({2, 0, 1}).unsqueeze(0); }

/// Python's round(n / 2.0): halves go to the even neighbour.
int64_t half_rounded(int64_t n) { return std::llrint(static_cast<double>(n) / 2.0); }

/// Five pixels at a time, with a byte more that the next ones replace; not at the ends, beyond which is nothing.
VRWKV_VECTOR_CLONES
void mirror_row(const std::uint8_t* __restrict from, int64_t width, std::uint8_t* __restrict to) {
  using Pixels = std::uint8_t __attribute__((vector_size(16)));
  constexpr int64_t kStep = 5;
  const auto copy_pixel = [&](int64_t x) {
    std::memcpy(to + x * kChannels, from + (width - 1 - x) * kChannels, kChannels);
  };
  copy_pixel(0);
  int64_t x = 1;
  for (; x + kStep < width; x += kStep) {
    Pixels pixels;
    std::memcpy(&pixels, from + (width - kStep - x) * kChannels, sizeof pixels);
    pixels = __builtin_shufflevector(pixels, pixels, 12, 13, 14, 9, 10, 11, 6, 7, 8, 3, 4, 5, 0, 1, 2, 15);
    std::memcpy(to + x * kChannels, &pixels, sizeof pixels);
  }
  for (; x < width; ++x) copy_pixel(x);
}

}  // namespace

at::Tensor resize(const at::Tensor& image, int64_t height, int64_t width, Interpolation interpolation) {
  check_image("resize", image);
  check_size("resize", height, width);
  if (image.size(0) == height && image.size(1) == width) {
    return image;
  }
  if (height > kMaxImagePixels / width) {
    throw ImageError("an image of " + std::to_string(image.size(1)) + " x " + std::to_string(image.size(0)) +
                     " would be resized to " + std::to_string(width) + " x " + std::to_string(height) +
                     " pixels, more than the limit of " + std::to_string(kMaxImagePixels));
  }
  at::Tensor resized = at::empty({height, width, kChannels}, at::kByte);
  at::Tensor view = as_batch(resized);
  if (interpolation == Interpolation::bicubic) {
    at::_upsample_bicubic2d_aa_out(view, as_batch(image), {height, width}, /*align_corners=*/false);
  } else {
    at::_upsample_bilinear2d_aa_out(view, as_batch(image), {height, width}, /*align_corners=*/false);
  }
  return resized;
}

at::Tensor resize_short_side(const at::Tensor& image, int64_t size, Interpolation interpolation) {
  check_image("resize_short_side", image);
  const int64_t height = image.size(0);
  const int64_t width = image.size(1);
  return height <= width ? resize(image, size, size * width / height, interpolation)
                         : resize(image, size * height / width, size, interpolation);
}

// The copies below are plain loops: ATen's copies of this size would start a pool of threads for each loader thread.
at::Tensor crop(const at::Tensor& image, int64_t top, int64_t left, int64_t height, int64_t width) {
  check_image("crop", image);
  check_size("crop", height, width);
  if (top == 0 && left == 0 && height == image.size(0) && width == image.size(1)) {
    return image;
  }
  at::Tensor result = at::empty({height, width, kChannels}, at::kByte);
  const auto* source = image.const_data_ptr<std::uint8_t>();
  auto* target = result.mutable_data_ptr<std::uint8_t>();
  const int64_t first = std::clamp<int64_t>(-left, 0, width);                    // first column inside the image
  const int64_t last = std::clamp<int64_t>(image.size(1) - left, first, width);  // one past the last
  for (int64_t y = 0; y < height; ++y, target += width * kChannels) {
    const int64_t row = top + y;
    if (row < 0 || row >= image.size(0) || first == last) {
      std::memset(target, 0, static_cast<std::size_t>(width * kChannels));
      continue;
    }
    std::memset(target, 0, static_cast<std::size_t>(first * kChannels));
    std::memcpy(target + first * kChannels, source + (row * image.size(1) + left + first) * kChannels,
                static_cast<std::size_t>((last - first) * kChannels));
    std::memset(target + last * kChannels, 0, static_cast<std::size_t>((width - last) * kChannels));
  }
  return result;
}

at::Tensor center_crop(const at::Tensor& image, int64_t size) {
  check_image("center_crop", image);
  // A side that is too short is padded by floor((size - side) / 2) before it; a longer one loses round(half) there.
  const auto start = [size](int64_t side) { return side < size ? -((size - side) / 2) : half_rounded(side - size); };
  return crop(image, start(image.size(0)), start(image.size(1)), size, size);
}

at::Tensor pad_zero(const at::Tensor& image, int64_t padding) {
  check_image("pad_zero", image);
  return crop(image, -padding, -padding, image.size(0) + 2 * padding, image.size(1) + 2 * padding);
}

at::Tensor hflip(const at::Tensor& image) {
  check_image("hflip", image);
  const int64_t width = image.size(1);
  at::Tensor result = at::empty(image.sizes(), at::kByte);
  const auto* source = image.const_data_ptr<std::uint8_t>();
  auto* target = result.mutable_data_ptr<std::uint8_t>();
  for (int64_t y = 0; y < image.size(0); ++y, source += width * kChannels, target += width * kChannels) {
    mirror_row(source, width, target);
  }
  return result;
}

}  // namespace vrwkv::data
