#include "data/jpeg_codec.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <csetjmp>
#include <cstddef>
#include <string>
#include <vector>

#include "data/image_codec.h"
#include "data/jpeg_error.h"

// Behind jpeglib.h.
#include <jerror.h>

namespace vrwkv::data {
namespace {

/// Warnings of damaged data are passed over, as Pillow does; only the end of the data before the end of the image is
/// an error, for which libjpeg would otherwise invent grey pixels.
void on_message(j_common_ptr info, int level) {
  if (level < 0 && info->err->msg_code == JWRN_JPEG_EOF) {
    jump_on_jpeg_error(info);
  }
}

/// One decompression. Each method that calls libjpeg returns false after an error, whose jump crosses only libjpeg's
/// frames and that method's own, which holds nothing to destroy.
class JpegReader {
 public:
  JpegReader() {
    info_.err = jpeg_std_error(&error_.base);
    error_.base.error_exit = jump_on_jpeg_error;
    error_.base.emit_message = on_message;
  }
  ~JpegReader() { jpeg_destroy_decompress(&info_); }
  JpegReader(const JpegReader&) = delete;
  JpegReader& operator=(const JpegReader&) = delete;

  bool read_header(std::span<const std::uint8_t> bytes) {
    if (setjmp(error_.jump) != 0) {
      return false;
    }
    jpeg_create_decompress(&info_);
    jpeg_mem_src(&info_, bytes.data(), static_cast<unsigned long>(bytes.size()));
    jpeg_read_header(&info_, TRUE);
    info_.out_color_space = info_.num_components == 4 ? JCS_CMYK : JCS_RGB;
    return true;
  }

  /// `pixels`: height x width x 3 bytes, or x 4 if the image has four components.
  bool read_pixels(std::uint8_t* pixels) {
    if (setjmp(error_.jump) != 0) {
      return false;
    }
    jpeg_start_decompress(&info_);
    const std::size_t stride = std::size_t{info_.output_width} * static_cast<std::size_t>(info_.output_components);
    while (info_.output_scanline < info_.output_height) {
      JSAMPROW row = pixels + info_.output_scanline * stride;
      jpeg_read_scanlines(&info_, &row, 1);
    }
    jpeg_finish_decompress(&info_);
    return true;
  }

  int64_t height() const { return info_.image_height; }
  int64_t width() const { return info_.image_width; }
  int components() const { return info_.num_components; }
  std::string message() const { return std::string("JPEG: ") + error_.message.data(); }

 private:
  JpegErrorState error_;
  jpeg_decompress_struct info_{};
};

/// Pillow's conversion of CMYK, with the stored values inverted: channel = K - (255 - C) * K / 255, rounded.
void inverted_cmyk_to_rgb(const std::vector<std::uint8_t>& cmyk, std::uint8_t* rgb) {
  for (std::size_t i = 0; i < cmyk.size() / 4; ++i) {
    const int black = cmyk[4 * i + 3];
    for (std::size_t c = 0; c < 3; ++c) {
      const int product = (255 - cmyk[4 * i + c]) * black + 128;
      rgb[3 * i + c] = static_cast<std::uint8_t>(std::max(0, black - ((product + (product >> 8)) >> 8)));
    }
  }
}

}  // namespace

at::Tensor decode_jpeg(std::span<const std::uint8_t> bytes, int64_t max_pixels) {
  JpegReader reader;
  if (!reader.read_header(bytes)) {
    throw ImageError(reader.message());
  }
  const int components = reader.components();
  if (components != 1 && components != 3 && components != 4) {
    throw ImageError("JPEG: 1, 3 or 4 colour components expected, got " + std::to_string(components));
  }
  if (reader.height() * reader.width() > max_pixels) {
    throw ImageError("JPEG: " + std::to_string(reader.width()) + " x " + std::to_string(reader.height()) +
                     " pixels are more than the limit of " + std::to_string(max_pixels));
  }
  at::Tensor image = at::empty({reader.height(), reader.width(), 3}, at::kByte);
  auto* pixels = image.mutable_data_ptr<std::uint8_t>();
  if (components == 4) {
    std::vector<std::uint8_t> cmyk(static_cast<std::size_t>(reader.height() * reader.width()) * 4);
    if (!reader.read_pixels(cmyk.data())) {
      throw ImageError(reader.message());
    }
    inverted_cmyk_to_rgb(cmyk, pixels);
  } else if (!reader.read_pixels(pixels)) {
    throw ImageError(reader.message());
  }
  return image;
}

}  // namespace vrwkv::data
