#include "data/csv.h"

#include <gtest/gtest.h>

#include "common/errors.h"
#include "tests/data/test_data.h"

namespace vrwkv::data {
namespace {

using testing::bytes_of;
using testing::message_of;
using testing::TempFolder;

using Records = std::vector<std::vector<std::string>>;

Records records_of(const std::string& text) {
  const TempFolder folder;
  CsvReader reader(folder.write("list.csv", bytes_of(text)));
  Records records;
  while (auto record = reader.next()) records.push_back(*std::move(record));
  return records;
}

std::string csv_error(const std::string& text) {
  return message_of<UsageError>([&] { records_of(text); });
}

#define EXPECT_CONTAINS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

// What Python's csv.reader makes of the same texts (but for lines that are empty, which it gives as []).
TEST(Csv, ReadsAsRfc4180Says) {
  EXPECT_EQ(records_of(""), Records{});
  EXPECT_EQ(records_of("\n\r\n\n"), Records{});
  EXPECT_EQ(records_of("a,b\n1,2"), (Records{{"a", "b"}, {"1", "2"}}));
  EXPECT_EQ(records_of("\xEF\xBB\xBF"
                       "a,b\r\n 1 ,\r\n\r\n,\r\n"),
            (Records{{"a", "b"}, {" 1 ", ""}, {"", ""}}));
  EXPECT_EQ(records_of("\"a,\"\"x\"\"\",\"two\nlines\"\r\n\"\",\"b\"\n"),
            (Records{{"a,\"x\"", "two\nlines"}, {"", "b"}}));
}

// Any fields, quoted as they must be, come back.
TEST(Csv, RandomFieldsComeBack) {
  const std::string alphabet = "ab,\"\n\r \xc3\xa4";
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    Generator draw(seed, 0, 0, RandomStream::transform);
    Records records;
    std::string text;
    for (int64_t row = draw.integer(5); row >= 0; --row) {
      std::vector<std::string> fields(static_cast<std::size_t>(2 + draw.integer(3)));
      for (std::size_t i = 0; i < fields.size(); ++i) {
        for (int64_t length = draw.integer(6); length > 0; --length) {
          fields[i] += alphabet[static_cast<std::size_t>(draw.integer(std::ssize(alphabet)))];
        }
        text += i > 0 ? ",\"" : "\"";
        for (const char c : fields[i]) text += c == '"' ? std::string("\"\"") : std::string(1, c);
        text += '"';
      }
      text += draw.integer(2) == 0 ? "\n" : "\r\n";
      records.push_back(std::move(fields));
    }
    EXPECT_EQ(records_of(text), records) << text;
  }
}

TEST(Csv, NamesTheLineThatIsWrong) {
  EXPECT_CONTAINS(csv_error("a,b\n\"two\nlines\",1\nx\"y,2\n"), "list.csv:4: a quote within the unquoted field 'x'");
  EXPECT_CONTAINS(csv_error("a,b\n\"1\"2,3\n"), "list.csv:2: expected a comma or the end of the line after");
  EXPECT_CONTAINS(csv_error("a,b\n1,\"2\n3\n"), "list.csv:2: a quote is opened but never closed");
}

class CsvList : public ::testing::Test {
 protected:
  std::shared_ptr<const Dataset> open(const std::string& text) const {
    folder_.write("images/a, \"b\".jpg", bytes_of("quoted"));
    folder_.write("images/c.jpg", bytes_of("plain"));
    const auto list = folder_.write("list.CSV", bytes_of(text));
    return open_dataset({(folder_.path() / "images").string(), DatasetFormat::automatic, list.string()});
  }
  std::string error(const std::string& text) const {
    return message_of<UsageError>([&] { open(text); });
  }

  TempFolder folder_;
};

TEST_F(CsvList, ReadsNumbersAndNames) {
  const auto numbered = open("id,label,path\n7, 3 ,\"a, \"\"b\"\".jpg\"\n8,0,c.jpg\n");
  ASSERT_EQ(numbered->size(), 2);
  EXPECT_EQ(numbered->get(0).bytes.size(), 6U);
  EXPECT_EQ(numbered->label(0), 3);
  EXPECT_EQ(numbered->get(1).label, 0);
  EXPECT_EQ(numbered->classes(), (std::vector<std::string>{"0", "1", "2", "3"}));
  EXPECT_FALSE(numbered->has_class_names());
  const auto named = open("path,class\nc.jpg,zebra\nc.jpg,cat\nc.jpg,zebra\n");
  EXPECT_EQ(named->classes(), (std::vector<std::string>{"cat", "zebra"}));
  EXPECT_TRUE(named->has_class_names());
  EXPECT_EQ(named->label(0), 1);
  EXPECT_EQ(named->label(1), 0);
  EXPECT_EQ(named->label(2), 1);
}

TEST_F(CsvList, NamesWhatIsWrong) {
  EXPECT_CONTAINS(error(""), "is empty: expected a header and then lines of path,label");
  EXPECT_CONTAINS(error("path,label\n"), "is empty");
  EXPECT_CONTAINS(error("c.jpg,3\n"),
                  "list.CSV:1: expected a header with the columns path and label, or path and "
                  "class, got 'c.jpg,3'");
  EXPECT_CONTAINS(error("path,label,class\n"), "expected a header");
  EXPECT_CONTAINS(error("path,label\nc.jpg,3\nc.jpg\n"), "list.CSV:3: expected 2 fields, as in the header, got 1");
  EXPECT_CONTAINS(error("path,label\n\nc.jpg,cat\n"),
                  "list.CSV:3: expected a path and a label of 0 … 999999, got "
                  "'c.jpg' and 'cat'");
  EXPECT_CONTAINS(error("path,class\nc.jpg,\n"), "list.CSV:2: expected a path and the name of a class");
  EXPECT_CONTAINS(error("path,class\nd.jpg,x\n"), "its first image 'd.jpg' does not exist");
}

}  // namespace
}  // namespace vrwkv::data
