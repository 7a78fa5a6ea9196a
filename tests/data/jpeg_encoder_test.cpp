#include "data/jpeg_encoder.h"

#include <gtest/gtest.h>

#include "data/checksum.h"
#include "tests/data/test_data.h"

namespace vrwkv::data {
namespace {

/// (5 x + 3 y (c + 1) + 40 c) modulo 256.
at::Tensor waves(int64_t height, int64_t width) {
  at::Tensor image = at::empty({height, width, 3}, at::kByte);
  auto* pixel = image.mutable_data_ptr<std::uint8_t>();
  for (int64_t y = 0; y < height; ++y) {
    for (int64_t x = 0; x < width; ++x) {
      for (int64_t c = 0; c < 3; ++c) *pixel++ = static_cast<std::uint8_t>(5 * x + 3 * y * (c + 1) + 40 * c);
    }
  }
  return image;
}

std::uint32_t sum_of(const at::Tensor& image) {
  return crc32({image.const_data_ptr<std::uint8_t>(), static_cast<std::size_t>(image.numel())});
}

// Pillow 12's save(quality=…), opened again: zlib.crc32 of its pixels.
TEST(JpegEncoder, WritesPillowsPixels) {
  const at::Tensor image = waves(23, 37);
  ASSERT_EQ(sum_of(image), 0x83b45b6fU);
  for (const auto& [quality, expected] :
       {std::pair{1, 0x7657a130U}, {50, 0x8fc25532U}, {75, 0x725d698aU}, {90, 0x9420d5fdU}, {100, 0x72ad36a9U}}) {
    EXPECT_EQ(sum_of(decode_image(encode_jpeg(image, quality))), expected) << quality;
  }
}

TEST(JpegEncoder, RefusesWhatIsNoImage) {
  EXPECT_THROW(encode_jpeg(waves(2, 2), 0), std::invalid_argument);
  EXPECT_THROW(encode_jpeg(waves(2, 2), 101), std::invalid_argument);
  EXPECT_THROW(encode_jpeg(at::zeros({2, 2, 3}), 90), std::invalid_argument);
  EXPECT_NE(testing::message_of<std::invalid_argument>([] { encode_jpeg(waves(1, 65'501), 90); }).find("JPEG: "),
            std::string::npos);
}

}  // namespace
}  // namespace vrwkv::data
