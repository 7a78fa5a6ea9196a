#include "data/folder_dataset.h"

#include <algorithm>

#include "common/errors.h"
#include "common/log.h"
#include "data/file_bytes.h"
#include "data/image_name.h"

namespace vrwkv::data {
namespace fs = std::filesystem;

FolderDataset::FolderDataset(const fs::path& root) : root_(root) {
  std::vector<std::string> names;
  std::size_t images_in_root = 0;
  try {
    for (const fs::directory_entry& entry : fs::directory_iterator(root_)) {
      const std::string name = entry.path().filename().string();
      if (entry.is_directory() && !is_hidden(name)) {
        names.push_back(name);
      } else if (is_image_name(name)) {
        ++images_in_root;
      }
    }
    std::ranges::sort(names);
    if (names.empty() && images_in_root > 0) {
      throw UsageError(
          "dataset '" + root_.string() + "': " + std::to_string(images_in_root) +
          " images but no class folders: give a list of 'path label' lines (key 'list') for a flat folder");
    }
    if (names.empty()) {
      throw UsageError("dataset '" + root_.string() + "' is empty: expected one folder of images per class");
    }
    for (const std::string& name : names) {
      add_class(name);
    }
  } catch (const fs::filesystem_error& error) {
    throw UsageError("dataset '" + root_.string() + "' cannot be read: " + error.what());
  }
  if (images_in_root > 0) {
    log::warn("dataset '" + root_.string() + "': " + std::to_string(images_in_root) +
              " images outside of the class folders are ignored");
  }
}

void FolderDataset::add_class(const std::string& name) {
  const auto label = static_cast<int64_t>(classes_.size());
  const auto first = static_cast<std::ptrdiff_t>(files_.size());
  for (auto entry = fs::recursive_directory_iterator(root_ / name); entry != fs::recursive_directory_iterator();
       ++entry) {
    const std::string path = entry->path().string();
    if (entry->is_directory()) {
      if (is_hidden(path)) {
        entry.disable_recursion_pending();
      }
    } else if (is_image_name(path) && entry->is_regular_file()) {
      files_.push_back({entry->path().lexically_relative(root_).string(), label});
    }
  }
  if (static_cast<std::size_t>(first) == files_.size()) {
    throw UsageError("dataset '" + root_.string() + "': the class folder '" + name +
                     "' has no .jpg, .jpeg or .png image: fill or remove it");
  }
  std::sort(files_.begin() + first, files_.end(), [](const File& a, const File& b) { return a.path < b.path; });
  classes_.push_back(name);
}

EncodedSample FolderDataset::get(int64_t index) const {
  const File& file = files_.at(static_cast<std::size_t>(index));
  const fs::path path = root_ / file.path;
  auto bytes = read_file_bytes(path);
  return {*bytes, bytes, file.label, path.string()};
}

}  // namespace vrwkv::data
