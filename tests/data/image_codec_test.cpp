#include "data/image_codec.h"

#include <gtest/gtest.h>

#include <cstring>

#include "tests/data/test_data.h"

namespace vrwkv::data {
namespace {

using testing::Bytes;

class CodecFixture : public ::testing::TestWithParam<const char*> {
 protected:
  static Bytes content() { return *read_file_bytes(testing::fixture(GetParam())); }
};

TEST_P(CodecFixture, GivesPillowsPixels) {
  const auto expected = testing::read_ppm(testing::fixture(GetParam()).replace_extension(".ppm"));
  const at::Tensor image = decode_image(content());
  ASSERT_EQ(image.sizes(), expected.sizes());
  EXPECT_TRUE(image.is_contiguous());
  EXPECT_EQ(testing::max_difference(expected, image), 0);
}

TEST_P(CodecFixture, AnyTruncationIsAnError) {
  const Bytes whole = content();
  for (std::size_t length = 0; length < whole.size(); length += length < whole.size() - 40 ? 23 : 1) {
    const Bytes cut(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(length));
    EXPECT_THROW(decode_image(cut), ImageError) << length << " of " << whole.size() << " bytes";
  }
}

TEST_P(CodecFixture, DamagedBytesNeverDoHarm) {
  const Bytes whole = content();
  Generator generator(5, 0, 0, RandomStream::transform);
  for (int trial = 0; trial < 200; ++trial) {
    Bytes damaged = whole;
    for (int i = 0; i < 3; ++i) {
      const auto place = static_cast<std::size_t>(generator.integer(std::ssize(damaged)));
      damaged[place] = static_cast<std::uint8_t>(generator.integer(256));
    }
    try {
      EXPECT_EQ(decode_image(damaged, 1 << 20).size(2), 3);
    } catch (const ImageError& error) {
      EXPECT_GT(std::strlen(error.what()), 5U);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Jpeg, CodecFixture,
                         ::testing::Values("rgb_420.jpg", "rgb_422.jpg", "rgb_444.jpg", "stored_rgb.jpg",
                                           "progressive.jpg", "restarts.jpg", "restart_grid.jpg", "grey.jpg",
                                           "orientation.jpg", "cmyk.jpg", "ycck.jpg"));
INSTANTIATE_TEST_SUITE_P(Png, CodecFixture,
                         ::testing::Values("rgb.png", "rgba.png", "grey8.png", "grey_alpha.png", "bilevel.png",
                                           "grey2.png", "grey4.png", "palette.png", "palette4.png", "palette_alpha.png",
                                           "transparent_colour.png", "rgb16.png", "rgba16.png", "grey16.png",
                                           "interlaced.png"));

TEST(DecodeImage, NamesWhatItCannotRead) {
  const auto message = [](const Bytes& bytes) { return testing::message_of<ImageError>([&] { decode_image(bytes); }); };
  EXPECT_EQ(message({}), "the image is empty (0 bytes)");
  EXPECT_EQ(message(testing::bytes_of("GIF89a")), "neither a JPEG nor a PNG: the first bytes are 47 49 46 38 39 61");
  EXPECT_EQ(message({0xFF}), "neither a JPEG nor a PNG: the first bytes are ff");
  EXPECT_NE(message({0xFF, 0xD8, 0xFF}).find("JPEG: "), std::string::npos);
}

TEST(DecodeImage, RefusesBombsBeforeItAllocates) {
  for (const char* name : {"rgb_420.jpg", "rgb.png"}) {
    const Bytes bytes = *read_file_bytes(testing::fixture(name));
    EXPECT_NO_THROW(decode_image(bytes, 29 * 21));
    const std::string message = testing::message_of<ImageError>([&] { decode_image(bytes, 29 * 21 - 1); });
    EXPECT_NE(message.find("29 x 21 pixels are more than the limit of 608"), std::string::npos) << message;
  }
  // The size of a JPEG stands in its frame header: SOF0, two bytes of length, one of precision, then height and width.
  Bytes bomb = *read_file_bytes(testing::fixture("rgb_420.jpg"));
  const Bytes frame{0xFF, 0xC0};
  const auto found = std::search(bomb.begin(), bomb.end(), frame.begin(), frame.end());
  ASSERT_NE(found, bomb.end());
  std::fill_n(found + 5, 4, std::uint8_t{0xFD});
  const std::string message = testing::message_of<ImageError>([&] { decode_image(bomb); });
  EXPECT_NE(message.find("65021 x 65021 pixels"), std::string::npos) << message;
}

TEST(EncodePng, ComesBackUnchanged) {
  for (const auto& [height, width] : {std::pair{1, 1}, {1, 300}, {257, 3}, {64, 65}}) {
    const at::Tensor image = testing::random_image(height, width, static_cast<std::uint64_t>(height));
    EXPECT_EQ(testing::max_difference(image, decode_image(encode_png(image))), 0);
    const at::Tensor turned = image.transpose(0, 1);  // not contiguous
    EXPECT_EQ(testing::max_difference(turned, decode_image(encode_png(turned))), 0);
  }
}

TEST(EncodePng, RefusesOtherTensors) {
  EXPECT_THROW(encode_png(at::empty({3, 4, 4}, at::kByte)), std::invalid_argument);
  EXPECT_THROW(encode_png(at::empty({4, 4, 3}, at::kFloat)), std::invalid_argument);
  EXPECT_THROW(encode_png(at::empty({0, 4, 3}, at::kByte)), std::invalid_argument);
}

}  // namespace
}  // namespace vrwkv::data
