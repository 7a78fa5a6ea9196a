#include "data/csv.h"

#include "common/errors.h"

namespace vrwkv::data {
namespace {

constexpr int kEnd = std::char_traits<char>::eof();

}  // namespace

CsvReader::CsvReader(const std::filesystem::path& path) : path_(path), file_(path, std::ios::binary) {
  if (!file_ || std::filesystem::is_directory(path)) {
    throw UsageError("dataset list '" + path.string() + "' cannot be opened");
  }
  // Spreadsheets put the mark of UTF-8 first.
  for (const int expected : {0xEF, 0xBB, 0xBF}) {
    if (file_.peek() != expected) break;
    file_.get();
  }
}

std::string CsvReader::where() const { return path_.string() + ":" + std::to_string(record_); }

void CsvReader::fail(const std::string& what) const { throw UsageError(where() + ": " + what); }

std::string CsvReader::quoted_field() {
  std::string field;
  file_.get();
  while (true) {
    const int character = file_.get();
    if (character == kEnd) fail("a quote is opened but never closed");
    if (character == '\n') ++line_;
    if (character != '"') {
      field += static_cast<char>(character);
    } else if (file_.peek() == '"') {
      field += static_cast<char>(file_.get());
    } else {
      break;
    }
  }
  if (file_.peek() == '\r') file_.get();
  if (const int next = file_.peek(); next != ',' && next != '\n' && next != kEnd) {
    fail("expected a comma or the end of the line after the closing quote of '" + field.substr(0, 200) + "'");
  }
  return field;
}

std::string CsvReader::plain_field() {
  std::string field;
  for (int next = file_.peek(); next != ',' && next != '\n' && next != kEnd; next = file_.peek()) {
    if (next == '"') {
      fail("a quote within the unquoted field '" + field.substr(0, 200) +
           "': put the whole field in quotes and double " + "the quote");
    }
    field += static_cast<char>(file_.get());
  }
  if (file_.peek() != ',' && field.ends_with('\r')) field.pop_back();
  return field;
}

std::optional<std::vector<std::string>> CsvReader::next() {
  while (file_.peek() != kEnd) {
    record_ = line_;
    std::vector<std::string> fields;
    do {
      if (!fields.empty()) file_.get();  // The comma.
      fields.push_back(file_.peek() == '"' ? quoted_field() : plain_field());
    } while (file_.peek() == ',');
    if (file_.get() == '\n') ++line_;
    if (fields.size() > 1 || !fields.front().empty()) return fields;
  }
  return std::nullopt;
}

}  // namespace vrwkv::data
