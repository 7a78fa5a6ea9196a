#include "data/list_dataset.h"

#include <algorithm>
#include <fstream>

#include "common/errors.h"
#include "data/file_bytes.h"
#include "data/label_text.h"

namespace vrwkv::data {

ListDataset::ListDataset(const std::filesystem::path& root, const std::filesystem::path& list) : root_(root) {
  std::ifstream file(list);
  if (!file || std::filesystem::is_directory(list)) {
    throw UsageError("dataset list '" + list.string() + "' cannot be opened");
  }
  int64_t max_label = -1;
  std::string text;
  for (int64_t number = 1; std::getline(file, text); ++number) {
    const std::string_view line = trimmed(text);
    if (line.empty()) {
      continue;
    }
    const std::size_t blank = line.find_last_of(" \t");
    const auto label = blank == std::string_view::npos ? std::nullopt : parse_label(line.substr(blank));
    if (!label) {
      throw UsageError(list.string() + ":" + std::to_string(number) +
                       ": expected 'relative/path.jpg label' with a label of 0 … " + std::to_string(kMaxLabel) +
                       ", got '" + std::string(line.substr(0, 200)) + "'");
    }
    lines_.push_back({std::string(trimmed(line.substr(0, blank))), *label});
    max_label = std::max(max_label, *label);
  }
  if (lines_.empty()) {
    throw UsageError("dataset list '" + list.string() + "' is empty: expected 'relative/path.jpg label' lines");
  }
  if (!std::filesystem::exists(root_ / lines_.front().path)) {
    throw UsageError("dataset list '" + list.string() + "': its first image '" + lines_.front().path +
                     "' does not exist in '" + root_.string() + "'");
  }
  classes_ = numbered_classes(max_label + 1);
}

EncodedSample ListDataset::get(int64_t index) const {
  const Line& line = lines_.at(static_cast<std::size_t>(index));
  const std::filesystem::path path = root_ / line.path;
  auto bytes = read_file_bytes(path);
  return {*bytes, bytes, line.label, path.string()};
}

}  // namespace vrwkv::data
