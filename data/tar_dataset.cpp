#include "data/tar_dataset.h"

#include <glob.h>

#include <algorithm>

#include "common/errors.h"
#include "data/image_name.h"
#include "data/index_cache.h"
#include "data/shards.h"

namespace vrwkv::data {
namespace fs = std::filesystem;
namespace {

std::vector<std::string> matches(const std::string& pattern) {
  struct Found {
    glob_t list{};
    ~Found() { ::globfree(&list); }
  } found;
  const int result = ::glob(pattern.c_str(), GLOB_ERR, nullptr, &found.list);
  if (result != 0 && result != GLOB_NOMATCH) {
    throw UsageError("dataset '" + pattern + "': a folder of this pattern cannot be read");
  }
  return {found.list.gl_pathv, found.list.gl_pathv + found.list.gl_pathc};
}

std::string origin_of(const std::vector<std::string>& paths, const TarLabels& labels) {
  std::string origin = "tar";
  for (const std::string& path : paths) origin += " " + fs::absolute(path).string();
  if (!labels.ground_truth.empty()) {
    origin += " labels " + fs::absolute(labels.ground_truth).string() + " " + fs::absolute(labels.synsets).string();
  }
  return origin;
}

}  // namespace

std::vector<std::string> find_tars(const std::string& path) {
  std::vector<std::string> found;
  if (fs::is_directory(path)) {
    for (const fs::directory_entry& entry : fs::directory_iterator(path)) {
      const std::string name = entry.path().filename().string();
      if (lower_extension(name) == "tar" && !is_hidden(name)) found.push_back(entry.path().string());
    }
  } else if (fs::exists(path)) {
    found.push_back(path);
  } else if (path.find_first_of("*?[") != std::string::npos) {
    found = matches(path);
  }
  std::ranges::sort(found);
  return found;
}

TarDataset::TarDataset(const std::string& path, const TarLabels& labels, const std::string& index_cache)
    : paths_(find_tars(path)) {
  const bool is_sharded = is_shard_folder(path);
  if (is_sharded) {
    if (!labels.ground_truth.empty()) {
      throw UsageError("dataset '" + path + "': these shards hold their labels; remove ground_truth and synsets");
    }
    index_ = read_shard_images(path);
    paths_.clear();
    for (const IndexSource& shard : index_.sources) paths_.push_back((fs::path(path) / shard.path).string());
  }
  if (paths_.empty()) throw UsageError("dataset '" + path + "': there is no .tar file");
  for (const std::string& tar : paths_) archives_.push_back(std::make_shared<const MappedFile>(tar));
  if (!is_sharded) {
    index_ = cached_index(index_cache, origin_of(paths_, labels), [&] { return scan_tars(paths_, archives_, labels); });
  }
  for (std::size_t i = 0; i < archives_.size(); ++i) {
    if (std::ssize(archives_[i]->bytes()) != index_.sources[i].bytes) {
      throw UsageError("dataset '" + paths_[i] + "' changed while it was opened: start again when it is complete");
    }
  }
}

EncodedSample TarDataset::get(int64_t index) const {
  const ImageIndex::Place& place = index_.place(index);
  const auto source = static_cast<std::size_t>(place.source);
  const auto& archive = archives_[source];
  const auto bytes =
      archive->bytes().subspan(static_cast<std::size_t>(place.offset), static_cast<std::size_t>(place.bytes));
  return {bytes, archive, place.label, paths_[source] + ":" + std::string(index_.path(index))};
}

}  // namespace vrwkv::data
