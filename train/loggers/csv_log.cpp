#include "train/loggers/csv_log.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>
#include <sstream>
#include <stdexcept>

#include "common/atomic_file.h"

namespace vrwkv::train {
namespace {

[[noreturn]] void fail(const char* action, const std::filesystem::path& path) {
  throw std::runtime_error("cannot " + std::string(action) + " " + path.string() + ": " + std::strerror(errno));
}

/// The whole lines of a file; nothing if it does not exist.
std::vector<std::string> whole_lines(const std::filesystem::path& path) {
  if (!std::filesystem::exists(path)) return {};
  std::ifstream file(path);
  if (!file) fail("read", path);
  std::vector<std::string> lines;
  // A line that ends with the file has no line feed: it is torn.
  for (std::string line; std::getline(file, line) && !file.eof();) lines.push_back(line);
  if (file.bad()) fail("read", path);
  return lines;
}

std::vector<std::string> cells(const std::string& line) {
  std::vector<std::string> all;
  std::istringstream text(line + ",");
  for (std::string cell; std::getline(text, cell, ',');) all.push_back(cell);
  return all;
}

std::string joined(const std::vector<std::string>& parts) {
  std::string line;
  for (const std::string& part : parts) line += (&part == parts.data() ? "" : ",") + part;
  return line;
}

/// The step of a row; one beyond all others for what is no row.
int64_t step_of(const std::string& row) {
  int64_t step = 0;
  const auto [end, problem] = std::from_chars(row.data(), row.data() + row.size(), step);
  return problem == std::errc() && end != row.data() + row.size() && *end == ',' ? step
                                                                                 : std::numeric_limits<int64_t>::max();
}

std::string number(double value) {
  if (!std::isfinite(value)) return "";
  std::array<char, 32> text{};
  return {text.data(), std::to_chars(text.data(), text.data() + text.size(), value).ptr};
}

}  // namespace

CsvLog::CsvLog(const std::filesystem::path& path, int64_t step) : path_(path) {
  std::vector<std::string> rows = whole_lines(path);
  if (!rows.empty()) {
    columns_ = cells(rows.front());
    rows.erase(rows.begin());
  }
  std::erase_if(rows,
                [&](const std::string& row) { return step_of(row) > step || cells(row).size() != columns_.size(); });
  start_with(rows);
}

void CsvLog::start_with(const std::vector<std::string>& rows) {
  file_.close();
  AtomicFile start(path_);
  start.write(joined(columns_) + "\n");
  for (const std::string& row : rows) start.write(row + "\n");
  start.commit();
  file_.open(path_, std::ios::app);
  if (!file_) fail("write", path_);
}

void CsvLog::add_columns(const std::vector<std::pair<std::string, double>>& values) {
  const size_t known = columns_.size();
  for (const auto& [name, value] : values) {
    if (std::find(columns_.begin(), columns_.end(), name) == columns_.end()) columns_.push_back(name);
  }
  if (columns_.size() == known) return;
  std::vector<std::string> rows = whole_lines(path_);
  rows.erase(rows.begin());
  for (std::string& row : rows) row.append(columns_.size() - known, ',');
  start_with(rows);
}

void CsvLog::write(int64_t step, const std::vector<std::pair<std::string, double>>& values) {
  add_columns(values);
  std::vector<std::string> row(columns_.size());
  row[0] = std::to_string(step);
  for (const auto& [name, value] : values) {
    row[static_cast<size_t>(std::find(columns_.begin(), columns_.end(), name) - columns_.begin())] = number(value);
  }
  file_ << joined(row) << std::endl;
  if (!file_) fail("write", path_);
}

}  // namespace vrwkv::train
