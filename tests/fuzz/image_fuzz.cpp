#include "data/image_codec.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr int64_t kMaxPixels = 1 << 18;  // Larger ones take long and say nothing new.
  try {
    vrwkv::data::decode_image({data, size}, kMaxPixels);
  } catch (const vrwkv::data::ImageError&) {
  }
  return 0;
}
