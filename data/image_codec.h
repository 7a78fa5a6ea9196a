#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <stdexcept>
#include <vector>

namespace vrwkv::data {

/// The bytes of one image cannot be read or decoded. Says what is wrong, but not which file: the caller knows that.
class ImageError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Largest image that is decoded, in pixels: Pillow's limit (twice its warning level) against decompression bombs.
inline constexpr int64_t kMaxImagePixels = 178'956'970;

/// Decodes JPEG or PNG bytes to uint8 [H, W, 3] (R, G, B; contiguous), the pixels of Pillow's `open(f).convert('RGB')`:
/// grey is repeated, CMYK and YCCK are taken as inverted (Adobe's convention), alpha and transparent colours are
/// dropped. 16-bit PNGs keep the high byte of each value (Pillow does the same for colour, but clips 16-bit grey at
/// 255). The EXIF orientation is ignored, as in the published recipe; so are gamma and colour profiles.
/// Throws ImageError for empty, truncated (also a PNG without its end chunk, which Pillow accepts) or damaged data, for
/// other formats, and for more than `max_pixels` pixels.
at::Tensor decode_image(std::span<const std::uint8_t> bytes, int64_t max_pixels = kMaxImagePixels);

/// Encodes uint8 [H, W, 3] as an 8-bit RGB PNG. Throws std::invalid_argument for another dtype or shape.
std::vector<std::uint8_t> encode_png(const at::Tensor& image);

}  // namespace vrwkv::data
