#include "data/jpeg_encoder.h"

#include <csetjmp>
#include <cstddef>
#include <cstdlib>
#include <stdexcept>
#include <string>

#include "data/check_image.h"
#include "data/jpeg_error.h"

namespace vrwkv::data {
namespace {

/// One compression. The jump after an error crosses only libjpeg's frames and that of write().
class JpegWriter {
 public:
  JpegWriter() {
    info_.err = jpeg_std_error(&error_.base);
    error_.base.error_exit = jump_on_jpeg_error;
  }
  ~JpegWriter() {
    jpeg_destroy_compress(&info_);
    std::free(bytes_);  // libjpeg's buffer, which it leaves to its caller.
  }
  JpegWriter(const JpegWriter&) = delete;
  JpegWriter& operator=(const JpegWriter&) = delete;

  bool write(const std::uint8_t* pixels, int64_t height, int64_t width, int64_t quality) {
    if (setjmp(error_.jump) != 0) {
      return false;
    }
    jpeg_create_compress(&info_);
    jpeg_mem_dest(&info_, &bytes_, &size_);
    info_.image_height = static_cast<JDIMENSION>(height);
    info_.image_width = static_cast<JDIMENSION>(width);
    info_.input_components = 3;
    info_.in_color_space = JCS_RGB;
    jpeg_set_defaults(&info_);
    jpeg_set_quality(&info_, static_cast<int>(quality), TRUE);
    jpeg_start_compress(&info_, TRUE);
    while (info_.next_scanline < info_.image_height) {
      // libjpeg reads the row, but its type is older than const.
      auto* row = const_cast<JSAMPROW>(pixels + std::size_t{info_.next_scanline} * info_.image_width * 3);
      jpeg_write_scanlines(&info_, &row, 1);
    }
    jpeg_finish_compress(&info_);
    return true;
  }

  std::vector<std::uint8_t> bytes() const { return {bytes_, bytes_ + size_}; }
  std::string message() const { return std::string("JPEG: ") + error_.message.data(); }

 private:
  JpegErrorState error_;
  jpeg_compress_struct info_{};
  unsigned char* bytes_ = nullptr;
  unsigned long size_ = 0;
};

}  // namespace

std::vector<std::uint8_t> encode_jpeg(const at::Tensor& image, int64_t quality) {
  check_image("encode_jpeg", image);
  if (quality < 1 || quality > 100) {
    throw std::invalid_argument("encode_jpeg: expected a quality of 1 … 100, got " + std::to_string(quality));
  }
  JpegWriter writer;
  if (!writer.write(image.const_data_ptr<std::uint8_t>(), image.size(0), image.size(1), quality)) {
    throw std::invalid_argument(writer.message());
  }
  return writer.bytes();
}

}  // namespace vrwkv::data
