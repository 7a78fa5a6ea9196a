#include "data/check_image.h"

#include <sstream>
#include <stdexcept>

namespace vrwkv::data {

void check_image(const char* function, const at::Tensor& image) {
  if (image.scalar_type() != at::kByte || image.dim() != 3 || image.size(2) != 3 || image.numel() == 0 ||
      !image.is_contiguous() || !image.is_cpu()) {
    std::ostringstream text;
    text << function << ": expected a contiguous uint8 image [H, W, 3] on the CPU, got " << image.scalar_type() << " "
         << image.sizes() << " with strides " << image.strides() << " on " << image.device();
    throw std::invalid_argument(text.str());
  }
}

}  // namespace vrwkv::data
