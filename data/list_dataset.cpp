#include "data/list_dataset.h"

#include <algorithm>
#include <fstream>
#include <map>

#include "common/errors.h"
#include "data/csv.h"
#include "data/file_bytes.h"
#include "data/image_name.h"
#include "data/label_text.h"

namespace vrwkv::data {
namespace {

/// Where the columns of a CSV list are.
struct Columns {
  std::size_t path, label;
  bool has_names;
  std::size_t count;

  Columns(const std::vector<std::string>& header, const std::string& where) : count(header.size()) {
    const auto find = [&](const char* name) {
      const auto column = std::ranges::find(header, name, [](const std::string& field) { return trimmed(field); });
      return static_cast<std::size_t>(column - header.begin());
    };
    const std::size_t number = find("label"), name = find("class");
    path = find("path");
    has_names = name < count;
    label = has_names ? name : number;
    if (path == count || label == count || (has_names && number < count)) {
      std::string names;
      for (const std::string& field : header) names += (names.empty() ? "" : ",") + field;
      throw UsageError(where + ": expected a header with the columns path and label, or path and class, got '" +
                       names.substr(0, 200) + "'");
    }
  }
};

}  // namespace

ListDataset::ListDataset(const std::filesystem::path& root, const std::filesystem::path& list) : root_(root) {
  const bool is_csv = lower_extension(list.string()) == "csv";
  if (is_csv) {
    read_csv(list);
  } else {
    read_text(list);
  }
  if (lines_.empty()) {
    throw UsageError("dataset list '" + list.string() + "' is empty: expected " +
                     (is_csv ? "a header and then lines of path,label" : "'relative/path.jpg label' lines"));
  }
  if (!std::filesystem::exists(root_ / lines_.front().path)) {
    throw UsageError("dataset list '" + list.string() + "': its first image '" + lines_.front().path +
                     "' does not exist in '" + root_.string() + "'");
  }
  if (!has_class_names_) number_classes();
}

void ListDataset::read_text(const std::filesystem::path& list) {
  std::ifstream file(list);
  if (!file || std::filesystem::is_directory(list)) {
    throw UsageError("dataset list '" + list.string() + "' cannot be opened");
  }
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
  }
}

void ListDataset::read_csv(const std::filesystem::path& list) {
  CsvReader reader(list);
  const auto header = reader.next();
  if (!header) return;
  const Columns columns(*header, reader.where());
  std::map<std::string, int64_t> label_of;
  std::vector<std::string> names;  // Of each line.
  while (const auto fields = reader.next()) {
    if (fields->size() != columns.count) {
      throw UsageError(reader.where() + ": expected " + std::to_string(columns.count) +
                       " fields, as in the header, got " + std::to_string(fields->size()));
    }
    const std::string& path = (*fields)[columns.path];
    const std::string& text = (*fields)[columns.label];
    const auto label = columns.has_names ? std::optional<int64_t>(0) : parse_label(text);
    if (path.empty() || text.empty() || !label) {
      throw UsageError(
          reader.where() + ": expected a path and " +
          (columns.has_names ? std::string("the name of a class") : "a label of 0 … " + std::to_string(kMaxLabel)) +
          ", got '" + path.substr(0, 200) + "' and '" + text.substr(0, 200) + "'");
    }
    lines_.push_back({path, *label});
    if (columns.has_names) {
      label_of.emplace(text, 0);
      names.push_back(text);
    }
  }
  has_class_names_ = columns.has_names;
  for (auto& [name, label] : label_of) {
    label = std::ssize(classes_);
    classes_.push_back(name);
  }
  for (std::size_t i = 0; i < names.size(); ++i) lines_[i].label = label_of.at(names[i]);
}

void ListDataset::number_classes() {
  classes_ = numbered_classes(1 + std::ranges::max_element(lines_, {}, &Line::label)->label);
}

EncodedSample ListDataset::get(int64_t index) const {
  const Line& line = lines_.at(static_cast<std::size_t>(index));
  const std::filesystem::path path = root_ / line.path;
  auto bytes = read_file_bytes(path);
  return {*bytes, bytes, line.label, path.string()};
}

}  // namespace vrwkv::data
