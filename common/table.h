#pragma once

#include <optional>
#include <string>
#include <vector>

namespace vrwkv {

enum class Align { left, right };

struct Column {
  std::string title;  ///< With its unit.
  Align align = Align::right;
};

/// A table for people: aligned columns, two spaces between them.
class Table {
 public:
  explicit Table(std::vector<Column> columns);

  /// Missing cells at the end are empty. Throws std::logic_error for more cells than columns.
  void add(std::vector<std::string> cells);

  /// Title line and rows, each ended by a line break, none by spaces.
  std::string text() const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

/// `value` with so many decimals, "-" for none.
std::string decimal(std::optional<double> value, int decimals);

/// A duration in milliseconds with four digits: 0.01234, 1.234, 1234, "-" for none.
std::string milliseconds(std::optional<double> value);

}  // namespace vrwkv
