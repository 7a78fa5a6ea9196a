#include "data/jpeg_restarts.h"

#include <csetjmp>
#include <cstddef>
#include <cstdlib>

#include "data/image_codec.h"
#include "data/jpeg_codec.h"
#include "data/jpeg_error.h"

namespace vrwkv::data {
namespace {

constexpr unsigned kBlock = 8;

/// Units (MCUs) between two markers: as many as divide a row, up to kLongest. A marker takes about 5 bytes; longer
/// pieces cost the reader more units beside the crop (docs/data.md has figures).
constexpr unsigned kLongest = 6, kShortest = 2;

/// `units` of a row where no number from kShortest to kLongest divides it: then only rows can be left out.
unsigned piece_of(unsigned units) {
  for (unsigned piece = kLongest; piece >= kShortest; --piece) {
    if (units % piece == 0) return piece;
  }
  return units;
}

/// Damage of any kind is an error here: what libjpeg makes up for must not be written down as an image.
void refuse_warnings(j_common_ptr info, int level) {
  if (level < 0) jump_on_jpeg_error(info);
}

/// One transcoding. The jump after an error crosses only libjpeg's frames and that of run().
class Transcoder {
 public:
  Transcoder() {
    reader_.err = jpeg_std_error(&error_.base);
    writer_.err = reader_.err;
    error_.base.error_exit = jump_on_jpeg_error;
    error_.base.emit_message = refuse_warnings;
  }
  ~Transcoder() {
    jpeg_destroy_compress(&writer_);
    jpeg_destroy_decompress(&reader_);
    std::free(bytes_);  // libjpeg's buffer, which it leaves to its caller.
  }
  Transcoder(const Transcoder&) = delete;
  Transcoder& operator=(const Transcoder&) = delete;

  bool run(std::span<const std::uint8_t> bytes) {
    if (setjmp(error_.jump) != 0) return false;
    jpeg_create_decompress(&reader_);
    jpeg_create_compress(&writer_);
    jpeg_mem_src(&reader_, bytes.data(), static_cast<unsigned long>(bytes.size()));
    jpeg_read_header(&reader_, TRUE);
    if (reader_.num_components != 1 && reader_.num_components != 3) return false;
    if (int64_t{reader_.image_height} * reader_.image_width > kMaxImagePixels) return false;
    jvirt_barray_ptr* coefficients = jpeg_read_coefficients(&reader_);
    jpeg_mem_dest(&writer_, &bytes_, &size_);
    jpeg_copy_critical_parameters(&reader_, &writer_);
    // The only component of an image is coded block by block, whatever its sampling factors.
    const auto block = kBlock * static_cast<unsigned>(reader_.num_components > 1 ? reader_.max_h_samp_factor : 1);
    writer_.restart_interval = piece_of((reader_.image_width + block - 1) / block);
    writer_.optimize_coding = TRUE;
    jpeg_write_coefficients(&writer_, coefficients);
    jpeg_finish_compress(&writer_);
    jpeg_finish_decompress(&reader_);
    return true;
  }

  std::vector<std::uint8_t> bytes() const { return {bytes_, bytes_ + size_}; }

 private:
  JpegErrorState error_;
  jpeg_decompress_struct reader_{};
  jpeg_compress_struct writer_{};
  unsigned char* bytes_ = nullptr;
  unsigned long size_ = 0;
};

}  // namespace

std::optional<std::vector<std::uint8_t>> with_restarts(std::span<const std::uint8_t> bytes) {
  if (!is_jpeg(bytes)) return std::nullopt;
  Transcoder transcoder;
  if (!transcoder.run(bytes)) return std::nullopt;
  return transcoder.bytes();
}

}  // namespace vrwkv::data
