#include "data/folder_dataset.h"

#include <algorithm>

#include "common/errors.h"
#include "common/log.h"
#include "data/file_bytes.h"
#include "data/image_name.h"
#include "data/index_cache.h"

namespace vrwkv::data {
namespace fs = std::filesystem;
namespace {

/// Finds the images of one root. A directory's time is taken before it is listed, so that a file that comes meanwhile
/// makes the index stale.
class FolderScan {
 public:
  explicit FolderScan(const fs::path& root) : root_(root) {}

  ImageIndex run() {
    try {
      for (const std::string& name : class_names()) add_class(name);
    } catch (const fs::filesystem_error& error) {
      throw UsageError("dataset '" + root_.string() + "' cannot be read: " + error.what());
    }
    return std::move(index_);
  }

 private:
  void add_source(const fs::path& folder) { index_.sources.push_back(index_source(fs::absolute(folder))); }

  std::vector<std::string> class_names() {
    std::vector<std::string> names;
    std::size_t stray = 0;
    add_source(root_);
    for (const fs::directory_entry& entry : fs::directory_iterator(root_)) {
      std::string name = entry.path().filename().string();
      if (entry.is_directory() && !is_hidden(name)) {
        names.push_back(std::move(name));
      } else if (is_image_name(name)) {
        ++stray;
      }
    }
    std::ranges::sort(names);
    if (names.empty() && stray > 0) {
      throw UsageError(
          "dataset '" + root_.string() + "': " + std::to_string(stray) +
          " images but no class folders: give a list of 'path label' lines (key 'list') for a flat folder");
    }
    if (names.empty()) {
      throw UsageError("dataset '" + root_.string() + "' is empty: expected one folder of images per class");
    }
    if (stray > 0) {
      log::warn("dataset '" + root_.string() + "': " + std::to_string(stray) +
                " images outside of the class folders are ignored");
    }
    return names;
  }

  void add_class(const std::string& name) {
    std::vector<std::string> paths;
    const fs::path folder = root_ / name;
    const std::size_t root_length = folder.string().size() - name.size();
    add_source(folder);
    for (auto entry = fs::recursive_directory_iterator(folder); entry != fs::recursive_directory_iterator(); ++entry) {
      const std::string path = entry->path().string();
      if (entry->is_directory()) {
        if (is_hidden(path)) {
          entry.disable_recursion_pending();
        } else {
          add_source(entry->path());
        }
      } else if (is_image_name(path) && entry->is_regular_file()) {
        paths.push_back(path.substr(root_length));
      }
    }
    if (paths.empty()) {
      throw UsageError("dataset '" + root_.string() + "': the class folder '" + name +
                       "' has no .jpg, .jpeg or .png image: fill or remove it");
    }
    std::ranges::sort(paths);
    for (const std::string& path : paths) {
      index_.add(path, {.label = static_cast<std::int32_t>(index_.classes.size())});
    }
    index_.classes.push_back(name);
  }

  fs::path root_;
  ImageIndex index_;
};

}  // namespace

FolderDataset::FolderDataset(const fs::path& root, const std::string& index_cache)
    : root_(root),
      index_(
          cached_index(index_cache, "folder " + fs::absolute(root).string(), [&] { return FolderScan(root).run(); })) {}

EncodedSample FolderDataset::get(int64_t index) const {
  const fs::path path = root_ / index_.path(index);
  auto bytes = read_file_bytes(path);
  return {*bytes, bytes, label(index), path.string()};
}

}  // namespace vrwkv::data
