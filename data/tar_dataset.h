#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "data/image_index.h"
#include "data/mapped_file.h"
#include "data/tar_scan.h"

namespace vrwkv::data {

/// The tars that a path means, sorted bytewise: the file itself, the .tar files of a folder, or what matches a pattern
/// with * ? or [ ] where no file has that very name. Hidden files are passed over. Empty where there are none.
std::vector<std::string> find_tars(const std::string& path);

/// Images in one or several uncompressed tars, mapped into memory, that form one set; samples are in the order of the
/// archives and within them (with `labels`: sorted by name). scan_tars() says which class an image has.
///
/// Where the images lie is found once: a folder written by vrwkv-shard says it itself (data/shards.h), otherwise it is
/// kept as cached_index() says.
class TarDataset final : public Dataset {
 public:
  /// `path` as for find_tars(); `index_cache` as in DatasetOptions. Throws UsageError, naming the file and the entry,
  /// for what index_tar, read_shard_index and read_ground_truth refuse, and for archives without images, with images at
  /// different depths, without label, twice under one key, or with a label that is no number.
  TarDataset(const std::string& path, const TarLabels& labels, const std::string& index_cache);

  int64_t size() const override { return index_.size(); }
  EncodedSample get(int64_t index) const override;
  int64_t label(int64_t index) const override { return index_.place(index).label; }
  const std::vector<std::string>& classes() const override { return index_.classes; }
  bool has_class_names() const override { return index_.has_class_names; }

 private:
  std::vector<std::string> paths_;
  std::vector<std::shared_ptr<const MappedFile>> archives_;
  ImageIndex index_;
};

}  // namespace vrwkv::data
