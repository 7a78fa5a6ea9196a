#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

namespace vrwkv::train {

/// A CSV file of numbers (RFC 4180, line feeds): a header, then a row for each step, the step in its first column. A
/// number has the digits that give back every bit of it; what is not finite is an empty cell.
class CsvLog {
 public:
  /// Opens the file for appending. Rows beyond `step` (of a run that went on after its last checkpoint) and a torn last
  /// one are removed first. Throws std::runtime_error, as all members do, naming the file and the system's reason.
  CsvLog(const std::filesystem::path& path, int64_t step);

  /// Appends a row, written through at once. A column that the file does not have yet is added to it, empty in the rows
  /// before; one that `values` lacks stays empty. Names must not hold commas, quotes or line feeds.
  void write(int64_t step, const std::vector<std::pair<std::string, double>>& values);

 private:
  void start_with(const std::vector<std::string>& rows);
  void add_columns(const std::vector<std::pair<std::string, double>>& values);

  std::filesystem::path path_;
  std::vector<std::string> columns_{"step"};
  std::ofstream file_;
};

}  // namespace vrwkv::train
