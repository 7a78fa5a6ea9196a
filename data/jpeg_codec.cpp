#include "data/jpeg_codec.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <array>
#include <csetjmp>
#include <cstddef>
#include <cstring>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "data/image_codec.h"
#include "data/jpeg_cut.h"
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

  /// From here on pixels are those of the image at 1 / `reduction`.
  void reduce(int64_t reduction) {
    info_.scale_num = 1;
    info_.scale_denom = static_cast<unsigned>(reduction);
  }

  /// The rows and columns of `box` to `pixels`, `components` bytes each. `row` holds a row of the whole image.
  bool read_part(const Box& box, std::uint8_t* pixels, std::uint8_t* row) {
    if (setjmp(error_.jump) != 0) {
      return false;
    }
    jpeg_start_decompress(&info_);
    // With a block more on each side, from which colours are interpolated.
    const auto begin = static_cast<JDIMENSION>(std::max<int64_t>(0, box.left - kMargin));
    const auto end = static_cast<JDIMENSION>(std::min<int64_t>(info_.output_width, box.left + box.width + kMargin));
    JDIMENSION first = begin, count = end - begin;
    jpeg_crop_scanline(&info_, &first, &count);
    jpeg_skip_scanlines(&info_, static_cast<JDIMENSION>(box.top));
    const std::size_t bytes = static_cast<std::size_t>(box.width) * static_cast<std::size_t>(info_.output_components);
    const std::size_t offset =
        static_cast<std::size_t>(box.left - first) * static_cast<std::size_t>(info_.output_components);
    for (int64_t y = 0; y < box.height; ++y) {
      JSAMPROW target = row;
      jpeg_read_scanlines(&info_, &target, 1);
      std::memcpy(pixels + static_cast<std::size_t>(y) * bytes, row + offset, bytes);
    }
    return true;
  }

  int64_t height() const { return info_.image_height; }
  int64_t width() const { return info_.image_width; }
  int components() const { return info_.num_components; }
  std::string message() const { return std::string("JPEG: ") + error_.message.data(); }

 private:
  static constexpr int64_t kMargin = 32;  ///< The widest block, with colours at half or a quarter of the pixels.

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

void read_checked_header(JpegReader& reader, std::span<const std::uint8_t> bytes, int64_t max_pixels) {
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
}

/// `read(pixels)` fills height x width pixels of the reader's components; false after an error.
template <typename Read>
at::Tensor to_rgb(const JpegReader& reader, int64_t height, int64_t width, const Read& read) {
  at::Tensor image = at::empty({height, width, 3}, at::kByte);
  auto* pixels = image.mutable_data_ptr<std::uint8_t>();
  if (reader.components() != 4) {
    if (!read(pixels)) throw ImageError(reader.message());
    return image;
  }
  std::vector<std::uint8_t> cmyk(static_cast<std::size_t>(height * width) * 4);
  if (!read(cmyk.data())) throw ImageError(reader.message());
  inverted_cmyk_to_rgb(cmyk, pixels);
  return image;
}

at::Tensor read_box(JpegReader& reader, const Box& of_all, int64_t reduction) {
  reader.reduce(reduction);
  const Box box{of_all.top / reduction, of_all.left / reduction, of_all.height / reduction, of_all.width / reduction};
  std::vector<std::uint8_t> row(static_cast<std::size_t>(reader.width()) *
                                static_cast<std::size_t>(std::max(3, reader.components())));
  return to_rgb(reader, box.height, box.width,
                [&](std::uint8_t* pixels) { return reader.read_part(box, pixels, row.data()); });
}

}  // namespace

bool is_jpeg(std::span<const std::uint8_t> bytes) {
  constexpr std::array<std::uint8_t, 3> kMagic{0xFF, 0xD8, 0xFF};
  return bytes.size() >= kMagic.size() && std::equal(kMagic.begin(), kMagic.end(), bytes.begin());
}

at::Tensor decode_jpeg(std::span<const std::uint8_t> bytes, int64_t max_pixels) {
  JpegReader reader;
  read_checked_header(reader, bytes, max_pixels);
  return to_rgb(reader, reader.height(), reader.width(),
                [&](std::uint8_t* pixels) { return reader.read_pixels(pixels); });
}

Box jpeg_size(std::span<const std::uint8_t> bytes, int64_t max_pixels) {
  JpegReader reader;
  read_checked_header(reader, bytes, max_pixels);
  return {0, 0, reader.height(), reader.width()};
}

at::Tensor decode_jpeg_part(std::span<const std::uint8_t> bytes, const Box& box, int64_t reduction) {
  const auto divides = [&](int64_t side) { return side % reduction == 0; };
  const bool known = reduction == 1 || reduction == 2 || reduction == 4 || reduction == 8;
  if (!known || !divides(box.top) || !divides(box.left) || !divides(box.height) || !divides(box.width)) {
    throw std::invalid_argument("decode_jpeg_part: the reduction must be 1, 2, 4 or 8 and divide the box, got " +
                                std::to_string(reduction));
  }
  JpegReader reader;
  read_checked_header(reader, bytes, kMaxImagePixels);
  if (box.top < 0 || box.left < 0 || box.height < 1 || box.width < 1 || box.top + box.height > reader.height() ||
      box.left + box.width > reader.width()) {
    throw std::invalid_argument("decode_jpeg_part: the box must lie within the image");
  }
  const std::optional<JpegCut> cut = cut_jpeg(bytes, box);
  if (!cut) return read_box(reader, box, reduction);
  JpegReader smaller;
  read_checked_header(smaller, cut->bytes, kMaxImagePixels);
  return read_box(smaller, cut->box, reduction);  // Cuts lie between blocks of 8 pixels.
}

}  // namespace vrwkv::data
