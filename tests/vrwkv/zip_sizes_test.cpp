#include "vrwkv/checkpoint/zip_sizes.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>

namespace vrwkv {
namespace {

/// An archive's directory, written out as PKWARE's APPNOTE.TXT says: 46 bytes and the name for an entry, then the end.
class Archive {
 public:
  /// `wide`: the sizes stand in a zip64 field, after another field.
  void add(const std::string& name, uint64_t compressed, uint64_t whole, bool wide = false) {
    std::string extra;
    if (wide)
      extra =
          number(9, 2) + number(3, 2) + "abc" + number(1, 2) + number(16, 2) + number(whole, 8) + number(compressed, 8);
    const uint64_t narrow = 0xFFFFFFFF;
    directory_ += "PK\x01\x02" + std::string(16, '\0') + number(wide ? narrow : compressed, 4) +
                  number(wide ? narrow : whole, 4) + number(name.size(), 2) + number(extra.size(), 2) + number(4, 2) +
                  std::string(12, '\0') + name + extra + "note";
  }

  /// `end64`: the directory's place stands in the zip64 end record.
  std::string bytes(bool end64 = false) const {
    const std::string body(1000, 'x');
    std::string end;
    if (end64) {
      end = "PK\x06\x06" + std::string(44, '\0') + number(body.size(), 8);
      end += "PK\x06\x07" + number(0, 4) + number(body.size() + directory_.size(), 8) + number(1, 4);
    }
    return body + directory_ + end + "PK\x05\x06" + std::string(12, '\0') +
           number(end64 ? 0xFFFFFFFF : body.size(), 4) + number(7, 2) + "comment";
  }

 private:
  static std::string number(uint64_t value, int bytes) {
    std::string text;
    for (int i = 0; i < bytes; ++i) text += static_cast<char>(value >> (8 * i));
    return text;
  }

  std::string directory_;
};

std::string verdict(const std::string& bytes) {
  try {
    check_zip_sizes(std::as_bytes(std::span(bytes)));
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  return "sound";
}

TEST(ZipSizes, WhatCompressedBytesCanHoldIsSound) {
  for (const bool wide : {false, true}) {
    for (const bool end64 : {false, true}) {
      Archive archive;
      archive.add("stored", 900, 900, wide);
      archive.add("zeros", 100, 103200);
      archive.add("nothing", 0, 0, wide);
      EXPECT_EQ(verdict(archive.bytes(end64)), "sound");
    }
  }
}

TEST(ZipSizes, MoreIsNot) {
  for (const bool wide : {false, true}) {
    for (const bool end64 : {false, true}) {
      Archive archive;
      archive.add("sound", 10, 10, !wide);
      archive.add("a/version", 2, 2065, wide);
      EXPECT_EQ(verdict(archive.bytes(end64))
                    .find("damaged archive: its entry 'a/version' claims 2065 bytes, which its 2 in a file of 1"),
                0);
    }
  }
  Archive enormous;
  enormous.add("x", uint64_t{1} << 62, uint64_t{1} << 63, true);
  EXPECT_NE(verdict(enormous.bytes()), "sound");
  Archive overlapping;  // Each of them would fit alone.
  for (const char* name : {"a", "b", "c"}) overlapping.add(name, 500, 500);
  EXPECT_NE(verdict(overlapping.bytes()), "sound");
  Archive longer;
  longer.add("x", 5000, 5000);
  EXPECT_NE(verdict(longer.bytes()), "sound");
}

TEST(ZipSizes, OtherDamageIsNotItsConcern) {
  Archive archive;
  archive.add("stored", 900, 900, true);
  const std::string whole = archive.bytes(true);
  for (size_t size = 0; size < whole.size(); ++size) EXPECT_EQ(verdict(whole.substr(0, size)), "sound");
  for (size_t from = 0; from < whole.size(); ++from) EXPECT_EQ(verdict(whole.substr(from)), "sound");
}

}  // namespace
}  // namespace vrwkv
