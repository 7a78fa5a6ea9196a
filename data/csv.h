#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

namespace vrwkv::data {

/// Reads a CSV file as RFC 4180 has it, one record after the other: fields between commas, in double quotes where they
/// hold commas, line breaks or (doubled) quotes; lines end with LF or CRLF. Empty lines are passed over.
class CsvReader {
 public:
  /// Throws UsageError when the file cannot be opened.
  explicit CsvReader(const std::filesystem::path& path);

  /// The fields of the next record, or nothing at the end. Throws UsageError, with file and line, for a quote within an
  /// unquoted field, text after a closing quote, and a quote that is not closed.
  std::optional<std::vector<std::string>> next();

  /// "file:line" of the record that next() returned last: where it began.
  std::string where() const;

 private:
  [[noreturn]] void fail(const std::string& what) const;
  std::string quoted_field();
  std::string plain_field();

  std::filesystem::path path_;
  std::ifstream file_;
  int64_t line_ = 1;    ///< Of the next character.
  int64_t record_ = 1;  ///< Line at which the record began.
};

}  // namespace vrwkv::data
