#include "data/image_source.h"

#include <stdexcept>

#include "data/jpeg_codec.h"
#include "data/resize.h"

namespace vrwkv::data {

ImageSource::ImageSource(at::Tensor image)
    : image_(std::move(image)), height_(image_.size(0)), width_(image_.size(1)) {}

ImageSource::ImageSource(std::span<const std::uint8_t> bytes, int64_t max_pixels) {
  if (is_jpeg(bytes)) {
    const Box whole = jpeg_size(bytes, max_pixels);
    bytes_ = bytes;
    height_ = whole.height;
    width_ = whole.width;
  } else {
    *this = ImageSource(decode_image(bytes, max_pixels));
  }
}

at::Tensor ImageSource::whole() const { return image_.defined() ? image_ : decode_image(bytes_, height_ * width_); }

at::Tensor ImageSource::part(const Box& box, int64_t reduction) const {
  if (reduces()) return decode_jpeg_part(bytes_, box, reduction);
  if (reduction != 1) throw std::invalid_argument("ImageSource::part: only a JPEG can be reduced");
  return crop(image_, box.top, box.left, box.height, box.width);
}

}  // namespace vrwkv::data
