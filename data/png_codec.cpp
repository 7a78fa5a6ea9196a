#include "data/png_codec.h"

#include <ATen/ops/empty.h>
#include <png.h>

#include <array>
#include <csetjmp>
#include <cstring>
#include <sstream>
#include <string>

#include "data/image_codec.h"

namespace vrwkv::data {
namespace {

struct ErrorState {
  std::jmp_buf jump{};
  std::array<char, 256> message{};
};

[[noreturn]] void fail(png_structp png, png_const_charp message) {
  auto* state = static_cast<ErrorState*>(png_get_error_ptr(png));
  std::strncpy(state->message.data(), message, state->message.size() - 1);
  std::longjmp(state->jump, 1);
}

void ignore_warning(png_structp /*png*/, png_const_charp /*message*/) {}

struct Source {
  const std::uint8_t* data = nullptr;
  std::size_t left = 0;
};

void read_bytes(png_structp png, png_bytep out, png_size_t count) {
  auto* source = static_cast<Source*>(png_get_io_ptr(png));
  if (count > source->left) {
    png_error(png, "the data is truncated");
  }
  std::memcpy(out, source->data, count);
  source->data += count;
  source->left -= count;
}

void write_bytes(png_structp png, png_bytep data, png_size_t count) {
  auto* out = static_cast<std::vector<std::uint8_t>*>(png_get_io_ptr(png));
  bool written = true;
  try {
    out->insert(out->end(), data, data + count);
  } catch (const std::exception&) {
    written = false;  // neither may an exception cross libpng nor a jump leave this handler
  }
  if (!written) {
    png_error(png, "out of memory");
  }
}

void flush_nothing(png_structp /*png*/) {}

/// One decompression. Each method that calls libpng returns false after an error, whose jump crosses only libpng's
/// frames and that method's own, which holds nothing to destroy.
class PngReader {
 public:
  explicit PngReader(std::span<const std::uint8_t> bytes) : source_{bytes.data(), bytes.size()} {
    png_ = png_create_read_struct(PNG_LIBPNG_VER_STRING, &error_, fail, ignore_warning);
    if (png_ != nullptr) {
      info_ = png_create_info_struct(png_);
    }
  }
  ~PngReader() { png_destroy_read_struct(&png_, &info_, nullptr); }
  PngReader(const PngReader&) = delete;
  PngReader& operator=(const PngReader&) = delete;

  bool read_header() {
    if (info_ == nullptr) {
      std::strncpy(error_.message.data(), "libpng did not start", error_.message.size() - 1);
      return false;
    }
    if (setjmp(error_.jump) != 0) {
      return false;
    }
    png_set_read_fn(png_, &source_, read_bytes);
    png_read_info(png_, info_);
    return true;
  }

  /// `pixels`: height x width x 3 bytes.
  bool read_pixels(std::uint8_t* pixels) {
    if (setjmp(error_.jump) != 0) {
      return false;
    }
    const auto color = png_get_color_type(png_, info_);
    png_set_strip_16(png_);
    if (color == PNG_COLOR_TYPE_PALETTE) {
      png_set_palette_to_rgb(png_);
    } else if ((color & PNG_COLOR_MASK_COLOR) == 0) {
      png_set_expand_gray_1_2_4_to_8(png_);
      png_set_gray_to_rgb(png_);
    }
    png_set_strip_alpha(png_);
    const int passes = png_set_interlace_handling(png_);
    png_read_update_info(png_, info_);
    const std::size_t stride = png_get_rowbytes(png_, info_);
    if (stride != std::size_t{png_get_image_width(png_, info_)} * 3) {
      png_error(png_, "no conversion to 8-bit RGB");
    }
    const png_uint_32 rows = png_get_image_height(png_, info_);
    for (int pass = 0; pass < passes; ++pass) {
      for (png_uint_32 row = 0; row < rows; ++row) {
        png_read_row(png_, pixels + row * stride, nullptr);
      }
    }
    png_read_end(png_, nullptr);
    return true;
  }

  int64_t height() const { return png_get_image_height(png_, info_); }
  int64_t width() const { return png_get_image_width(png_, info_); }
  std::string message() const { return std::string("PNG: ") + error_.message.data(); }

 private:
  ErrorState error_;
  Source source_;
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
};

/// One compression, with the same rule for jumps as PngReader.
class PngWriter {
 public:
  PngWriter() {
    png_ = png_create_write_struct(PNG_LIBPNG_VER_STRING, &error_, fail, ignore_warning);
    if (png_ != nullptr) {
      info_ = png_create_info_struct(png_);
    }
  }
  ~PngWriter() { png_destroy_write_struct(&png_, &info_); }
  PngWriter(const PngWriter&) = delete;
  PngWriter& operator=(const PngWriter&) = delete;

  bool write(const std::uint8_t* pixels, png_uint_32 height, png_uint_32 width, std::vector<std::uint8_t>* out) {
    if (info_ == nullptr || setjmp(error_.jump) != 0) {
      return false;
    }
    png_set_write_fn(png_, out, write_bytes, flush_nothing);
    png_set_IHDR(png_, info_, width, height, 8, PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT,
                 PNG_FILTER_TYPE_DEFAULT);
    png_write_info(png_, info_);
    for (png_uint_32 row = 0; row < height; ++row) {
      png_write_row(png_, pixels + std::size_t{row} * width * 3);
    }
    png_write_end(png_, info_);
    return true;
  }

  std::string message() const { return std::string("PNG: ") + error_.message.data(); }

 private:
  ErrorState error_;
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
};

}  // namespace

at::Tensor decode_png(std::span<const std::uint8_t> bytes, int64_t max_pixels) {
  PngReader reader(bytes);
  if (!reader.read_header()) {
    throw ImageError(reader.message());
  }
  if (reader.height() > max_pixels / reader.width()) {
    throw ImageError("PNG: " + std::to_string(reader.width()) + " x " + std::to_string(reader.height()) +
                     " pixels are more than the limit of " + std::to_string(max_pixels));
  }
  at::Tensor image = at::empty({reader.height(), reader.width(), 3}, at::kByte);
  if (!reader.read_pixels(image.mutable_data_ptr<std::uint8_t>())) {
    throw ImageError(reader.message());
  }
  return image;
}

std::vector<std::uint8_t> encode_png(const at::Tensor& image) {
  if (image.scalar_type() != at::kByte || image.dim() != 3 || image.size(2) != 3 || image.numel() == 0) {
    std::ostringstream text;
    text << "encode_png: expected a uint8 image [H, W, 3], got " << image.scalar_type() << " " << image.sizes();
    throw std::invalid_argument(text.str());
  }
  const at::Tensor pixels = image.cpu().contiguous();
  std::vector<std::uint8_t> out;
  PngWriter writer;
  if (!writer.write(pixels.const_data_ptr<std::uint8_t>(), static_cast<png_uint_32>(pixels.size(0)),
                    static_cast<png_uint_32>(pixels.size(1)), &out)) {
    throw std::runtime_error(writer.message());
  }
  return out;
}

}  // namespace vrwkv::data
