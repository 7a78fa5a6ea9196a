#pragma once

#include <algorithm>
#include <cstdlib>

#include "data/box.h"
#include "data/jpeg_error.h"
#include "data/random.h"
#include "data/resize.h"
#include "tests/data/test_data.h"

/// JPEGs of all kinds, for tests of their decoding.
namespace vrwkv::data::testing {

/// How an image is stored: sampling factors of the first component against 1 x 1 of the others, and the passes.
struct Stored {
  const char* name;
  int across, down, components;
  bool progressive = false;
};

/// Noise with large shapes in it, so that colours change slowly and quickly.
inline at::Tensor picture(int64_t height, int64_t width, std::uint64_t seed) {
  const at::Tensor coarse = resize(random_image((height + 15) / 16, (width + 15) / 16, seed), height, width);
  return (coarse.to(at::kInt) * 3 + random_image(height, width, seed + 1)).div(4, "floor").to(at::kByte);
}

inline Bytes encoded(const at::Tensor& image, const Stored& stored) {
  JpegErrorState error;
  jpeg_compress_struct info{};
  info.err = jpeg_std_error(&error.base);
  jpeg_create_compress(&info);
  unsigned char* bytes = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&info, &bytes, &size);
  info.image_height = static_cast<JDIMENSION>(image.size(0));
  info.image_width = static_cast<JDIMENSION>(image.size(1));
  info.input_components = 3;
  info.in_color_space = JCS_RGB;
  jpeg_set_defaults(&info);
  if (stored.components == 1) jpeg_set_colorspace(&info, JCS_GRAYSCALE);
  jpeg_set_quality(&info, 85, TRUE);
  info.comp_info[0].h_samp_factor = stored.across;
  info.comp_info[0].v_samp_factor = stored.down;
  if (stored.progressive) jpeg_simple_progression(&info);
  jpeg_start_compress(&info, TRUE);
  while (info.next_scanline < info.image_height) {
    auto* row = const_cast<JSAMPROW>(image.const_data_ptr<std::uint8_t>() +
                                     std::size_t{info.next_scanline} * info.image_width * 3);
    jpeg_write_scanlines(&info, &row, 1);
  }
  jpeg_finish_compress(&info);
  const Bytes result(bytes, bytes + size);
  jpeg_destroy_compress(&info);
  std::free(bytes);
  return result;
}

inline Box random_box(int64_t height, int64_t width, Generator& generator) {
  Box box;
  // Small ones, too, of which all sides lie within the image.
  box.height = 1 + generator.integer(generator.integer(2) == 0 ? height : std::min<int64_t>(height, 24));
  box.width = 1 + generator.integer(generator.integer(2) == 0 ? width : std::min<int64_t>(width, 24));
  box.top = generator.integer(height - box.height + 1);
  box.left = generator.integer(width - box.width + 1);
  return box;
}

}  // namespace vrwkv::data::testing
