#include "config/text.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <random>

namespace vrwkv::config {
namespace {

TEST(ParseInteger, TakesDecimalIntegersOnly) {
  EXPECT_EQ(parse_integer("0"), 0);
  EXPECT_EQ(parse_integer("+12"), 12);
  EXPECT_EQ(parse_integer("-7"), -7);
  EXPECT_EQ(parse_integer("9223372036854775807"), std::numeric_limits<int64_t>::max());
  EXPECT_EQ(parse_integer("-9223372036854775808"), std::numeric_limits<int64_t>::min());
  for (const char* text : {"", "+", "-", "+-1", "--1", "1.0", "1e3", "0x10", "010", "1_000", " 1", "1 ", "ten", "true",
                           "9223372036854775808", "99999999999999999999999"}) {
    EXPECT_EQ(parse_integer(text), std::nullopt) << text;
  }
}

TEST(ParseNumber, TakesFiniteDecimalNumbersOnly) {
  EXPECT_EQ(parse_number("3"), 3.0);
  EXPECT_EQ(parse_number("1e-3"), 1e-3);
  EXPECT_EQ(parse_number("+1.5E+2"), 150.0);
  EXPECT_EQ(parse_number(".5"), 0.5);
  EXPECT_EQ(parse_number("-2."), -2.0);
  for (const char* text : {"",     "+",    "-",   ".",     "e5",  "1e",    "1e400", "nan", "-nan", "inf", "-inf",
                           ".inf", ".nan", "NaN", "0x1p3", "1,5", "1.5.2", "+-1",   "--1", " 1",   "1f",  "ten"}) {
    EXPECT_EQ(parse_number(text), std::nullopt) << text;
  }
}

TEST(NumberText, IsReadBackBitForBitAlsoByTheCLibrary) {
  std::mt19937_64 random(5);
  int tried = 0;
  for (int i = 0; i < 20'000; ++i) {
    const auto value = std::bit_cast<double>(random());
    // Subnormal numbers are left out: reading them counts as an underflow, and no key needs them.
    if (!std::isnormal(value)) continue;
    ++tried;
    const std::string text = number_text(value);
    ASSERT_EQ(parse_number(text), value) << text;
    ASSERT_EQ(std::strtod(text.c_str(), nullptr), value) << text;
    ASSERT_EQ(parse_integer(text), std::nullopt) << text;
  }
  EXPECT_GT(tried, 10'000);
  EXPECT_EQ(number_text(5), "5.0");
  EXPECT_EQ(number_text(0.1), "0.1");
}

TEST(IsPlainText, RefusesControlCharactersAndBrokenUtf8) {
  EXPECT_TRUE(is_plain_text("", false));
  EXPECT_TRUE(is_plain_text("caf\xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80", false));
  EXPECT_TRUE(is_plain_text("a\n\tb\r\n", true));
  EXPECT_FALSE(is_plain_text("a\nb", false));
  using namespace std::string_literals;
  for (const std::string& bad :
       {"\0"s, "a\x01"s, "\x7F"s, "\x80"s, "\xC3"s, "\xC0\x80"s, "\xE0\x80\x80"s, "\xED\xA0\x80"s, "\xE2\x82"s,
        "\xF4\x90\x80\x80"s, "\xF8\x88\x80\x80\x80"s, "\xFF\xFE"s}) {
    EXPECT_FALSE(is_plain_text(bad, true)) << printable(bad);
  }
}

TEST(Printable, StaysOnOneShortLine) {
  EXPECT_EQ(printable("plain"), "plain");
  EXPECT_EQ(printable("a\nb\xFF"), "a\\x0ab\\xff");
  const std::string cut = printable(std::string(500, 'x'));
  EXPECT_EQ(cut, std::string(80, 'x') + "...");
}

TEST(LooksLikeOtherType, NamesWhatNeedsQuotes) {
  for (const char* text : {"", "~", "null", "true", "False", "12", "-1.5", "1e-3"}) {
    EXPECT_TRUE(looks_like_other_type(text)) << text;
  }
  for (const char* text : {"data", "nulls", "1a", "truely", "~/x", "yes"})
    EXPECT_FALSE(looks_like_other_type(text)) << text;
}

}  // namespace
}  // namespace vrwkv::config
