#include "common/table.h"

#include <gtest/gtest.h>

#include <stdexcept>

namespace vrwkv {
namespace {

TEST(Table, AlignsColumnsWithoutTrailingSpaces) {
  Table table({{"op", Align::left}, {"ms"}, {"", Align::left}});
  table.add({"a_long_name", "1.5", "out of memory"});
  table.add({"b", "100.25"});
  EXPECT_EQ(table.text(),
            "op               ms\n"
            "a_long_name     1.5  out of memory\n"
            "b            100.25\n");
}

TEST(Table, HasATitleLineWithoutRows) { EXPECT_EQ(Table({{"x"}, {"y"}}).text(), "x  y\n"); }

TEST(Table, RefusesTooManyCells) {
  Table table({{"x"}});
  EXPECT_THROW(table.add({"1", "2"}), std::logic_error);
}

TEST(Decimal, RoundsAndMarksWhatIsMissing) {
  EXPECT_EQ(decimal(1.25, 1), "1.2");
  EXPECT_EQ(decimal(31364.4, 0), "31364");
  EXPECT_EQ(decimal(std::nullopt, 3), "-");
}

TEST(Milliseconds, KeepFourDigits) {
  EXPECT_EQ(milliseconds(0.18123), "0.1812");
  EXPECT_EQ(milliseconds(0.0061234), "0.006123");
  EXPECT_EQ(milliseconds(1.23456), "1.235");
  EXPECT_EQ(milliseconds(123.456), "123.5");
  EXPECT_EQ(milliseconds(12345.6), "12346");
  EXPECT_EQ(milliseconds(0), "0.000");
  EXPECT_EQ(milliseconds(std::nullopt), "-");
}

}  // namespace
}  // namespace vrwkv
