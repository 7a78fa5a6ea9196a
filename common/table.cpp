#include "common/table.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <iomanip>
#include <sstream>
#include <stdexcept>

namespace vrwkv {
namespace {

constexpr std::size_t kGap = 2;
constexpr int kDigits = 4;
constexpr int kMaxDecimals = 6;

}  // namespace

Table::Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

void Table::add(std::vector<std::string> cells) {
  if (cells.size() > columns_.size()) throw std::logic_error("Table::add: more cells than columns");
  cells.resize(columns_.size());
  rows_.push_back(std::move(cells));
}

std::string Table::text() const {
  std::vector<std::size_t> widths;
  std::vector<std::string> titles;
  for (std::size_t i = 0; i < columns_.size(); ++i) {
    titles.push_back(columns_[i].title);
    widths.push_back(columns_[i].title.size());
    for (const auto& row : rows_) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  const auto append = [&](const std::vector<std::string>& cells) {
    std::string line;
    for (std::size_t i = 0; i < cells.size(); ++i) {
      const std::string space(widths[i] - cells[i].size(), ' ');
      line += std::string(i == 0 ? 0 : kGap, ' ');
      line += columns_[i].align == Align::left ? cells[i] + space : space + cells[i];
    }
    text += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
  };
  append(titles);
  for (const auto& row : rows_) append(row);
  return text;
}

std::string decimal(std::optional<double> value, int decimals) {
  if (!value) return "-";
  std::ostringstream text;
  text << std::fixed << std::setprecision(decimals) << *value;
  return text.str();
}

std::string milliseconds(std::optional<double> value) {
  if (!value) return "-";
  const int before_point = *value > 0 ? static_cast<int>(std::floor(std::log10(*value))) + 1 : 1;
  return decimal(value, std::clamp(kDigits - before_point, 0, kMaxDecimals));
}

}  // namespace vrwkv
