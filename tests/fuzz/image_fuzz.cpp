#include "data/image_source.h"
#include "data/jpeg_restarts.h"

using vrwkv::data::Box;
using vrwkv::data::ImageError;
using vrwkv::data::ImageSource;

namespace {

void try_whole(const ImageSource& source) {
  try {
    source.whole();
  } catch (const ImageError&) {
  }
}

/// The middle of the image, so that something is left out on every side; of a JPEG reduced, too.
void try_part(const ImageSource& source) {
  const int64_t height = source.height(), width = source.width();
  const Box middle{height / 3, width / 3, (height + 2) / 3, (width + 2) / 3};
  for (const int64_t unit : {1, 2, 4, 8}) {
    const Box box{middle.top / unit * unit, middle.left / unit * unit, middle.height / unit * unit,
                  middle.width / unit * unit};
    if (unit > 1 && (!source.reduces() || box.height == 0 || box.width == 0)) break;
    try {
      source.part(box, unit);
    } catch (const ImageError&) {
    }
  }
}

/// What is coded anew is an image as before.
void try_restarts(std::span<const std::uint8_t> bytes) {
  if (const auto restarts = vrwkv::data::with_restarts(bytes)) {
    try_whole(ImageSource(*restarts));
    try_part(ImageSource(*restarts));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr int64_t kMaxPixels = 1 << 18;  // Larger ones take long and say nothing new.
  try {
    const ImageSource source({data, size}, kMaxPixels);
    try_whole(source);
    try_part(source);
    try_restarts({data, size});
  } catch (const ImageError&) {
  }
  return 0;
}
