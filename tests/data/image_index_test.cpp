#include "data/image_index.h"

#include <gtest/gtest.h>

#include "common/errors.h"
#include "data/checksum.h"
#include "tests/data/test_data.h"

namespace vrwkv::data {
namespace {

using testing::Bytes;
using testing::bytes_of;
using testing::message_of;
using testing::TempFolder;

std::string decode_error(const Bytes& bytes) {
  return message_of<std::runtime_error>([&] { decode_index(bytes); });
}

ImageIndex random_index(std::uint64_t seed) {
  Generator draw(seed, 0, 0, RandomStream::transform);
  ImageIndex index;
  index.origin = "random " + std::to_string(seed);
  index.has_class_names = draw.integer(2) == 1;
  for (int64_t i = draw.integer(4); i >= 0; --i) index.sources.push_back({"/s" + std::to_string(i), 1000, i * 77});
  for (int64_t i = draw.integer(5); i >= 0; --i) index.classes.push_back(std::string(static_cast<size_t>(i), 'c'));
  for (int64_t i = draw.integer(50); i > 0; --i) {
    const int64_t offset = draw.integer(1000);
    index.add(std::string(static_cast<std::size_t>(draw.integer(40)), static_cast<char>('a' + i % 26)),
              {.offset = offset,
               .bytes = draw.integer(1001 - offset),
               .source = static_cast<std::int32_t>(draw.integer(std::ssize(index.sources))),
               .label = static_cast<std::int32_t>(draw.integer(std::ssize(index.classes)))});
  }
  return index;
}

TEST(Checksum, IsThatOfZip) {
  // Values of Python's zlib.crc32.
  EXPECT_EQ(crc32({}), 0U);
  const Bytes digits = bytes_of("123456789");
  EXPECT_EQ(crc32(digits), 0xcbf43926U);
  EXPECT_EQ(crc32(std::span(digits).subspan(4), crc32(std::span(digits).first(4))), 0xcbf43926U);
  EXPECT_EQ(crc32_text(0xab), "000000ab");
}

TEST(ImageIndex, ComesBackAsItWas) {
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    const ImageIndex index = random_index(seed);
    EXPECT_EQ(decode_index(bytes_of(encode_index(index))), index) << seed;
  }
  ImageIndex index;
  index.add("a/1.jpg", {.offset = 3});
  index.add("", {});
  index.add("b/2.jpg", {.offset = 5});
  EXPECT_EQ(index.path(0), "a/1.jpg");
  EXPECT_EQ(index.path(1), "");
  EXPECT_EQ(index.path(2), "b/2.jpg");
  EXPECT_EQ(index.place(2).offset, 5);
  EXPECT_THROW(index.path(3), std::out_of_range);
  EXPECT_THROW(index.place(-1), std::out_of_range);
}

TEST(ImageIndex, RefusesEveryDamage) {
  const Bytes whole = bytes_of(encode_index(random_index(3)));
  for (std::size_t length = 0; length < whole.size(); ++length) {
    EXPECT_NE(decode_error(Bytes(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(length))),
              "nothing was thrown")
        << length << " bytes";
  }
  for (std::size_t i = 0; i < whole.size(); ++i) {
    Bytes damaged = whole;
    damaged[i] ^= 0x10;
    EXPECT_NE(decode_error(damaged), "nothing was thrown") << "byte " << i;
  }
  Bytes longer = whole;
  longer.push_back(0);
  EXPECT_NE(decode_error(longer), "nothing was thrown");
}

TEST(ImageIndex, RefusesImagesThatLieNowhere) {
  const auto error = [](const ImageIndex::Place& place) {
    ImageIndex index;
    index.sources = {{"a.tar", 100, 0}};
    index.classes = {"x"};
    index.add("x/1.jpg", place);
    return decode_error(bytes_of(encode_index(index)));
  };
  EXPECT_EQ(error({.offset = 40, .bytes = 60}), "nothing was thrown");
  for (const ImageIndex::Place& place : {ImageIndex::Place{.offset = 41, .bytes = 60},
                                         {.offset = -1, .bytes = 1},
                                         {.bytes = -1},
                                         {.source = 1},
                                         {.label = 1},
                                         {.label = -1},
                                         {.offset = INT64_MAX, .bytes = INT64_MAX}}) {
    EXPECT_NE(error(place).find("outside of its archive"), std::string::npos);
  }
}

TEST(IndexSource, IsCurrentUntilItChanges) {
  const TempFolder folder;
  const auto file = folder.write("set/a.tar", bytes_of("12345"));
  const IndexSource source = index_source(file);
  EXPECT_EQ(source.bytes, 5);
  EXPECT_TRUE(is_current(source, {}));
  EXPECT_TRUE(is_current({"a.tar", 5, 0}, folder.path() / "set"));
  EXPECT_FALSE(is_current({"a.tar", 6, 0}, folder.path() / "set"));
  EXPECT_FALSE(is_current({"b.tar", 5, 0}, folder.path() / "set"));
  std::filesystem::last_write_time(file, std::filesystem::last_write_time(file) + std::chrono::nanoseconds(1000));
  EXPECT_FALSE(is_current(source, {}));
  EXPECT_EQ(index_source(folder.path() / "set").bytes, 0);
  EXPECT_NE(message_of<UsageError>([&] { index_source(folder.path() / "none"); }).find("none"), std::string::npos);
}

}  // namespace
}  // namespace vrwkv::data
