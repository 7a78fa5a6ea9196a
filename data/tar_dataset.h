#pragma once

#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "data/mapped_file.h"
#include "data/tar_index.h"

namespace vrwkv::data {

/// An uncompressed tar of images, mapped into memory and indexed once; samples are in the archive's order. If it holds
/// .cls files it is a WebDataset: `key.jpg` with the label in `key.cls`. Otherwise the class of an image is the name of
/// the folder that it lies in, sorted bytewise. Other files are passed over.
class TarDataset final : public Dataset {
 public:
  /// Throws UsageError, naming the file and the entry, for what index_tar refuses and for an archive without images,
  /// with images at different depths, without label, twice under one key, or with a label that is no number.
  explicit TarDataset(const std::filesystem::path& path);

  int64_t size() const override { return static_cast<int64_t>(samples_.size()); }
  EncodedSample get(int64_t index) const override;
  int64_t label(int64_t index) const override { return samples_.at(static_cast<std::size_t>(index)).label; }
  const std::vector<std::string>& classes() const override { return classes_; }
  bool has_class_names() const override { return has_class_names_; }

 private:
  struct Sample {
    std::string path;
    std::span<const std::uint8_t> bytes;
    int64_t label;
  };

  void add_by_folder(std::vector<TarEntry> images);
  void add_by_label(std::vector<TarEntry> images, const std::vector<TarEntry>& labels);
  [[noreturn]] void fail(const std::string& what) const;

  std::string name_;
  std::shared_ptr<const MappedFile> file_;
  std::vector<std::string> classes_;
  bool has_class_names_ = true;
  std::vector<Sample> samples_;
};

}  // namespace vrwkv::data
