#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "data/image_index.h"

namespace vrwkv::data {

/// One directory per class under `root`; its images at any depth belong to it. Classes are sorted by name (bytewise),
/// and so are the images of a class. Hidden files and directories are passed over.
///
/// The list of images is kept as cached_index() says: it is read again when a file was added to, removed from or
/// renamed in any of the directories, which changes that directory's time. (A change within a file needs no new list.)
class FolderDataset final : public Dataset {
 public:
  /// `index_cache` as in DatasetOptions. Throws UsageError when there is no class directory, or when a class has no
  /// image.
  FolderDataset(const std::filesystem::path& root, const std::string& index_cache);

  int64_t size() const override { return index_.size(); }
  EncodedSample get(int64_t index) const override;
  int64_t label(int64_t index) const override { return index_.place(index).label; }
  const std::vector<std::string>& classes() const override { return index_.classes; }
  bool has_class_names() const override { return true; }

 private:
  std::filesystem::path root_;
  ImageIndex index_;
};

}  // namespace vrwkv::data
