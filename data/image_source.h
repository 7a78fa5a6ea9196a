#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>

#include "data/box.h"
#include "data/image_codec.h"

namespace vrwkv::data {

/// An image of which a part may be enough: pixels, or the bytes of a file, of which a JPEG is decoded no further than a
/// part needs.
class ImageSource {
 public:
  /// image: uint8 [H, W, 3]. Not explicit: pixels are a source as they are.
  ImageSource(at::Tensor image);  // NOLINT(google-explicit-constructor)

  /// `bytes`, as decode_image takes them, must outlive this. Throws ImageError as decode_image does, except for damage
  /// behind the header of a JPEG, which whole() or part() finds.
  explicit ImageSource(std::span<const std::uint8_t> bytes, int64_t max_pixels = kMaxImagePixels);

  int64_t height() const { return height_; }
  int64_t width() const { return width_; }

  /// All pixels, uint8 [H, W, 3].
  at::Tensor whole() const;

  /// Whether part() can be had reduced: of a JPEG.
  bool reduces() const { return !image_.defined(); }

  /// The pixels of `box`, which lies within the image: exactly those of whole(). Data that is missing or damaged below
  /// it is not noticed. With `reduction`, one for each square of so many, as decode_jpeg_part() has it; for reduces().
  at::Tensor part(const Box& box, int64_t reduction = 1) const;

 private:
  at::Tensor image_;                     ///< Undefined for a JPEG.
  std::span<const std::uint8_t> bytes_;  ///< Of a JPEG.
  int64_t height_ = 0, width_ = 0;
};

}  // namespace vrwkv::data
