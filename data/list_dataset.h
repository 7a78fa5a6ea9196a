#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "data/dataset.h"

namespace vrwkv::data {

/// Images under `root` named by a file, in its order. A text file has one `relative/path.jpg 123` per line (the label
/// after the last blank of the line; empty lines are passed over): the form of ImageNet's val.txt. A file that ends in
/// .csv is read as RFC 4180 has it; its first line names the columns: `path`, and `label` (numbers from 0) or `class`
/// (names, whose labels are their places in bytewise order). Other columns are passed over.
class ListDataset final : public Dataset {
 public:
  /// Throws UsageError, with file and line, for a list that is missing, empty or malformed, and when its first image
  /// does not exist (the others are only looked for when they are read).
  ListDataset(const std::filesystem::path& root, const std::filesystem::path& list);

  int64_t size() const override { return static_cast<int64_t>(lines_.size()); }
  EncodedSample get(int64_t index) const override;
  int64_t label(int64_t index) const override { return lines_.at(static_cast<std::size_t>(index)).label; }
  const std::vector<std::string>& classes() const override { return classes_; }
  bool has_class_names() const override { return has_class_names_; }

 private:
  struct Line {
    std::string path;  ///< Relative to root_.
    int64_t label;
  };

  void read_text(const std::filesystem::path& list);
  void read_csv(const std::filesystem::path& list);
  void number_classes();

  std::filesystem::path root_;
  std::vector<std::string> classes_;
  bool has_class_names_ = false;
  std::vector<Line> lines_;
};

}  // namespace vrwkv::data
