#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "data/dataset.h"

namespace vrwkv::data {

/// One directory per class under `root`; its images at any depth belong to it. Classes are sorted by name (bytewise),
/// and so are the images of a class. Hidden files and directories are passed over.
class FolderDataset final : public Dataset {
 public:
  /// Throws UsageError when there is no class directory, or when a class has no image.
  explicit FolderDataset(const std::filesystem::path& root);

  int64_t size() const override { return static_cast<int64_t>(files_.size()); }
  EncodedSample get(int64_t index) const override;
  int64_t label(int64_t index) const override { return files_.at(static_cast<std::size_t>(index)).label; }
  const std::vector<std::string>& classes() const override { return classes_; }
  bool has_class_names() const override { return true; }

 private:
  struct File {
    std::string path;  ///< Relative to root_.
    int64_t label;
  };

  void add_class(const std::string& name);

  std::filesystem::path root_;
  std::vector<std::string> classes_;
  std::vector<File> files_;
};

}  // namespace vrwkv::data
