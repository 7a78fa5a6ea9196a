#include "data/jpeg_cut.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>

#include "data/image_source.h"
#include "data/jpeg_encoder.h"
#include "data/jpeg_error.h"
#include "data/jpeg_restarts.h"
#include "data/resize.h"
#include "tests/data/stored_jpeg.h"
#include "tests/data/test_data.h"

namespace vrwkv::data {
namespace {

using testing::Bytes;
using testing::encoded;
using testing::picture;
using testing::random_box;
using testing::Stored;

class JpegCutOf : public ::testing::TestWithParam<Stored> {};

TEST_P(JpegCutOf, HasThePixelsOfTheWholeImage) {
  Generator generator(7, 0, 0, RandomStream::transform);
  int64_t smaller = 0, cuts = 0;
  for (const auto& [height, width] : {std::pair<int64_t, int64_t>{96, 128},
                                      {203, 157},
                                      {64, 333},
                                      {375, 500},
                                      {17, 16},
                                      {1, 200},
                                      {130, 3},
                                      {97, 193},
                                      {33, 99},
                                      {40, 290}}) {
    const Bytes original = encoded(picture(height, width, static_cast<std::uint64_t>(width)), GetParam());
    const std::optional<Bytes> restarts = with_restarts(original);
    ASSERT_TRUE(restarts);
    const at::Tensor whole = decode_image(original);
    ASSERT_TRUE(decode_image(*restarts).equal(whole)) << height << " x " << width;
    for (int trial = 0; trial < 60; ++trial) {
      const Box box = random_box(height, width, generator);
      const auto place = ::testing::Message() << box.height << " x " << box.width << " at " << box.top << ", "
                                              << box.left << " of " << height << " x " << width;
      const at::Tensor expected = crop(whole, box.top, box.left, box.height, box.width);
      const std::optional<JpegCut> cut = cut_jpeg(*restarts, box);
      ASSERT_TRUE(cut) << place;
      const at::Tensor part = decode_image(cut->bytes);
      ASSERT_TRUE(crop(part, cut->box.top, cut->box.left, box.height, box.width).equal(expected)) << place;
      ASSERT_TRUE(ImageSource(*restarts).part(box).equal(expected)) << place;
      smaller += part.numel() < whole.numel();
      ++cuts;
    }
  }
  EXPECT_GT(smaller, cuts / 2);
}

INSTANTIATE_TEST_SUITE_P(Stored, JpegCutOf,
                         ::testing::Values(Stored{"c444", 1, 1, 3}, Stored{"c422", 2, 1, 3}, Stored{"c440", 1, 2, 3},
                                           Stored{"c420", 2, 2, 3}, Stored{"c411", 4, 1, 3}, Stored{"grey", 1, 1, 1},
                                           Stored{"grey_with_factors", 2, 2, 1}, Stored{"progressive", 2, 2, 3, true}),
                         [](const auto& instance) { return std::string(instance.param.name); });

TEST(JpegCut, LeavesOutWhatTheBoxDoesNotNeed) {
  const Bytes restarts = *with_restarts(encoded(picture(384, 512, 1), {"", 2, 2, 3}));
  const std::optional<JpegCut> cut = cut_jpeg(restarts, {100, 200, 32, 32});
  ASSERT_TRUE(cut);
  // Rows 96 ... 143, as 132 + 4 lies in the third row of units; columns by pieces of 4 units.
  EXPECT_EQ(decode_image(cut->bytes).sizes(), (at::IntArrayRef{48, 64, 3}));
  EXPECT_EQ(cut->box, (Box{4, 8, 32, 32}));
}

TEST(JpegCut, NeedsMarkersThatDivideTheRows) {
  const Box box{0, 0, 8, 8};
  const auto fixture = [](const char* name) { return *read_file_bytes(testing::fixture(name)); };
  for (const char* name : {"rgb_420.jpg", "progressive.jpg", "cmyk.jpg", "rgb.png"}) {
    EXPECT_FALSE(cut_jpeg(fixture(name), box)) << name;
  }
  EXPECT_FALSE(cut_jpeg({}, box));
}

TEST(JpegCut, WrongMarkersAreNotTrusted) {
  Bytes restarts = *with_restarts(encoded(picture(96, 128, 1), {"", 2, 2, 3}));
  const auto marker = std::ranges::search(restarts, Bytes{0xFF, 0xD1}).begin();
  ASSERT_NE(marker, restarts.end());
  marker[1] = 0xD5;
  EXPECT_FALSE(cut_jpeg(restarts, {0, 0, 96, 128}));
  EXPECT_TRUE(cut_jpeg(restarts, {0, 0, 8, 8}));  // The marker lies behind.
}

TEST(JpegCut, DamagedBytesNeverDoHarm) {
  Generator generator(5, 0, 0, RandomStream::transform);
  const Bytes whole = *with_restarts(encoded(picture(70, 90, 3), {"", 2, 1, 3}));
  for (std::size_t place = 0; place < whole.size(); ++place) {
    Bytes damaged = whole;
    damaged[place] = static_cast<std::uint8_t>(damaged[place] + 1 + generator.integer(255));
    try {
      const ImageSource source(damaged, 1 << 20);
      const Box box = random_box(source.height(), source.width(), generator);
      EXPECT_EQ(source.part(box).sizes(), (at::IntArrayRef{box.height, box.width, 3}));
    } catch (const ImageError& error) {
      EXPECT_FALSE(std::string(error.what()).empty());
    }
  }
}

TEST(JpegCut, MissingDataIsAnErrorAsElsewhere) {
  const Bytes whole = *with_restarts(encoded(picture(120, 90, 2), {"", 2, 2, 3}));
  const Bytes half(whole.begin(), whole.begin() + std::ssize(whole) / 2);
  EXPECT_THROW(ImageSource(half).part({60, 0, 60, 90}), ImageError);
  EXPECT_TRUE(ImageSource(half).part({0, 0, 20, 90}).equal(decode_image(whole).narrow(0, 0, 20)));
  EXPECT_THROW(ImageSource(whole).part({0, 1, 20, 90}), std::invalid_argument);
}

TEST(JpegRestarts, KeepWhatTheyCannotCarry) {
  const auto fixture = [](const char* name) { return *read_file_bytes(testing::fixture(name)); };
  for (const char* name : {"cmyk.jpg", "ycck.jpg", "rgb.png"}) EXPECT_FALSE(with_restarts(fixture(name))) << name;
  for (const char* name : {"rgb_420.jpg", "stored_rgb.jpg", "grey.jpg", "progressive.jpg", "orientation.jpg"}) {
    const Bytes original = fixture(name);
    const std::optional<Bytes> restarts = with_restarts(original);
    ASSERT_TRUE(restarts) << name;
    EXPECT_TRUE(decode_image(*restarts).equal(decode_image(original))) << name;
    EXPECT_EQ(with_restarts(*restarts), restarts) << name;
  }
  const Bytes whole = fixture("rgb_420.jpg");
  EXPECT_FALSE(with_restarts(std::span(whole).first(whole.size() / 2)));
  EXPECT_FALSE(with_restarts({}));
}

TEST(JpegRestarts, PhotographsStayThemselves) {
  const auto folder = testing::shared_data("imagenet-sample");
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << folder << " is not there";
  int files = 0;
  std::size_t before = 0, after = 0;
  Generator generator(9, 0, 0, RandomStream::transform);
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file() || files == 40) continue;
    ++files;
    const Bytes original = *read_file_bytes(entry.path());
    const std::optional<Bytes> restarts = with_restarts(original);
    ASSERT_TRUE(restarts) << entry.path();
    before += original.size();
    after += restarts->size();
    const at::Tensor whole = decode_image(original);
    EXPECT_TRUE(decode_image(*restarts).equal(whole)) << entry.path();
    for (int trial = 0; trial < 5; ++trial) {
      const Box box = random_box(whole.size(0), whole.size(1), generator);
      EXPECT_TRUE(ImageSource(*restarts).part(box).equal(crop(whole, box.top, box.left, box.height, box.width)))
          << entry.path();
    }
  }
  EXPECT_EQ(files, 40);
  // Markers cost about what better Huffman tables save.
  EXPECT_LT(after, before + before / 50);
}

}  // namespace
}  // namespace vrwkv::data
