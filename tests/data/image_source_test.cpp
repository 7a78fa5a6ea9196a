#include "data/image_source.h"

#include <gtest/gtest.h>

#include "data/file_bytes.h"
#include "data/jpeg_encoder.h"
#include "data/resize.h"
#include "tests/data/test_data.h"

namespace vrwkv::data {
namespace {

using testing::Bytes;
using testing::max_difference;

Box random_box(const ImageSource& image, Generator& generator) {
  Box box;
  box.height = 1 + generator.integer(image.height());
  box.width = 1 + generator.integer(image.width());
  box.top = generator.integer(image.height() - box.height + 1);
  box.left = generator.integer(image.width() - box.width + 1);
  return box;
}

void expect_exact_parts(const Bytes& bytes, int trials, std::uint64_t seed) {
  const ImageSource source(bytes);
  const at::Tensor whole = decode_image(bytes);
  ASSERT_EQ(whole.sizes(), (at::IntArrayRef{source.height(), source.width(), 3}));
  EXPECT_EQ(max_difference(source.whole(), whole), 0);
  Generator generator(seed, 0, 0, RandomStream::transform);
  for (int trial = 0; trial < trials; ++trial) {
    const Box box = random_box(source, generator);
    const at::Tensor part = source.part(box);
    EXPECT_TRUE(part.is_contiguous());
    ASSERT_EQ(max_difference(part, crop(whole, box.top, box.left, box.height, box.width)), 0)
        << box.height << " x " << box.width << " at " << box.top << ", " << box.left << " of " << whole.sizes();
  }
}

class ImageSourceFixture : public ::testing::TestWithParam<const char*> {};

TEST_P(ImageSourceFixture, PartsAreThoseOfTheWhole) {
  expect_exact_parts(*read_file_bytes(testing::fixture(GetParam())), 300, 3);
}

INSTANTIATE_TEST_SUITE_P(Files, ImageSourceFixture,
                         ::testing::Values("rgb_420.jpg", "rgb_422.jpg", "rgb_444.jpg", "stored_rgb.jpg",
                                           "progressive.jpg", "restarts.jpg", "restart_grid.jpg", "grey.jpg",
                                           "orientation.jpg", "cmyk.jpg", "rgb.png", "palette.png"),
                         [](const auto& instance) {
                           std::string name = instance.param;
                           std::ranges::replace(name, '.', '_');
                           return name;
                         });

TEST(ImageSource, PartsOfLargerNoiseAreExact) {
  for (const auto& [height, width] :
       {std::pair<int64_t, int64_t>{203, 157}, {64, 333}, {500, 375}, {17, 16}, {1, 200}}) {
    const at::Tensor noise = testing::random_image(height, width, static_cast<std::uint64_t>(height));
    for (const int64_t quality : {30, 92}) expect_exact_parts(encode_jpeg(noise, quality), 40, 5);
  }
}

TEST(ImageSource, PhotographsToo) {
  const auto folder = testing::shared_data("imagenet-sample");
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << folder << " is not there";
  int files = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file() || files == 40) continue;
    ++files;
    expect_exact_parts(*read_file_bytes(entry.path()), 5, static_cast<std::uint64_t>(files));
  }
  EXPECT_EQ(files, 40);
}

TEST(ImageSource, DamagedBytesNeverDoHarm) {
  Generator generator(5, 0, 0, RandomStream::transform);
  for (const char* name :
       {"rgb_420.jpg", "progressive.jpg", "restarts.jpg", "restart_grid.jpg", "grey.jpg", "cmyk.jpg"}) {
    const Bytes whole = *read_file_bytes(testing::fixture(name));
    for (int trial = 0; trial < 200; ++trial) {
      Bytes damaged = whole;
      for (int i = 0; i < 3; ++i) {
        const auto place = static_cast<std::size_t>(generator.integer(std::ssize(damaged)));
        damaged[place] = static_cast<std::uint8_t>(generator.integer(256));
      }
      try {
        const ImageSource source(damaged, 1 << 20);
        const Box box = random_box(source, generator);
        EXPECT_EQ(source.part(box).sizes(), (at::IntArrayRef{box.height, box.width, 3}));
      } catch (const ImageError& error) {
        EXPECT_FALSE(std::string(error.what()).empty());
      }
    }
  }
}

TEST(ImageSource, PixelsAreASource) {
  const at::Tensor image = testing::random_image(9, 7, 1);
  const ImageSource source(image);
  EXPECT_EQ(max_difference(source.part({2, 3, 4, 1}), image.narrow(0, 2, 4).narrow(1, 3, 1)), 0);
}

TEST(ImageSource, ErrorsAreThoseOfDecoding) {
  const Bytes whole = encode_jpeg(testing::random_image(120, 90, 2), 90);
  const Bytes half(whole.begin(), whole.begin() + std::ssize(whole) / 2);
  const ImageSource source(half);
  EXPECT_THROW(source.whole(), ImageError);
  EXPECT_THROW(source.part({60, 0, 60, 90}), ImageError);
  EXPECT_EQ(max_difference(source.part({0, 0, 20, 90}), decode_image(whole).narrow(0, 0, 20)), 0);
  EXPECT_THROW(ImageSource(whole, 120 * 90 - 1), ImageError);
  EXPECT_THROW(ImageSource(Bytes{}), ImageError);
  EXPECT_THROW(source.part({0, 1, 20, 90}), std::invalid_argument);
}

}  // namespace
}  // namespace vrwkv::data
