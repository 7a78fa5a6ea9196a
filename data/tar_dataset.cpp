#include "data/tar_dataset.h"

#include <algorithm>
#include <map>
#include <string_view>
#include <unordered_map>

#include "common/errors.h"
#include "data/image_name.h"
#include "data/label_text.h"

namespace vrwkv::data {
namespace {

/// Name of the folder that holds `path`; empty at the top of the archive.
std::string_view parent_of(std::string_view path) {
  const std::size_t slash = path.find_last_of('/');
  if (slash == std::string_view::npos) {
    return {};
  }
  const std::string_view folder = path.substr(0, slash);
  return folder.substr(folder.find_last_of('/') + 1);
}

/// WebDataset's key: the path without its ending.
std::string key_of(const std::string& path) { return path.substr(0, path.find_last_of('.')); }

}  // namespace

TarDataset::TarDataset(const std::filesystem::path& path)
    : name_(path.string()), file_(std::make_shared<const MappedFile>(path)) {
  std::vector<TarEntry> images;
  std::vector<TarEntry> labels;
  for (TarEntry& entry : index_tar(file_->bytes(), path)) {
    if (is_image_name(entry.path)) {
      images.push_back(std::move(entry));
    } else if (lower_extension(entry.path) == "cls" && !is_hidden(entry.path)) {
      labels.push_back(std::move(entry));
    }
  }
  if (images.empty()) {
    fail("the tar holds no .jpg, .jpeg or .png image");
  }
  samples_.reserve(images.size());
  if (labels.empty()) {
    add_by_folder(std::move(images));
  } else {
    add_by_label(std::move(images), labels);
  }
}

void TarDataset::fail(const std::string& what) const { throw UsageError("dataset '" + name_ + "': " + what); }

void TarDataset::add_by_folder(std::vector<TarEntry> images) {
  const auto depth = [](const TarEntry& image) { return std::ranges::count(image.path, '/'); };
  std::map<std::string, int64_t, std::less<>> folders;
  for (const TarEntry& image : images) {
    if (depth(image) == 0) {
      fail("'" + image.path +
           "' lies in no class folder and the tar holds no .cls files: expected class/name.jpg, or "
           "WebDataset's pairs key.jpg and key.cls");
    }
    if (depth(image) != depth(images.front())) {
      fail("mixed layouts: '" + images.front().path + "' and '" + image.path +
           "' lie at different depths, so their folders cannot both be classes");
    }
    folders.emplace(parent_of(image.path), 0);
  }
  for (auto& [folder, label] : folders) {
    label = static_cast<int64_t>(classes_.size());
    classes_.push_back(folder);
  }
  for (TarEntry& image : images) {
    const int64_t label = folders.find(parent_of(image.path))->second;
    samples_.push_back({std::move(image.path), image.bytes, label});
  }
}

void TarDataset::add_by_label(std::vector<TarEntry> images, const std::vector<TarEntry>& labels) {
  struct Label {
    int64_t value;
    bool used;
  };
  std::unordered_map<std::string, Label> label_of;
  int64_t max_label = 0;
  for (const TarEntry& entry : labels) {
    const std::string_view text(reinterpret_cast<const char*>(entry.bytes.data()), entry.bytes.size());
    const auto label = parse_label(text);
    if (!label) {
      fail("'" + entry.path + "' must hold a label of 0 … " + std::to_string(kMaxLabel) + " as text, got '" +
           std::string(text.substr(0, 40)) + "'");
    }
    if (!label_of.emplace(key_of(entry.path), Label{*label, false}).second) {
      fail("'" + entry.path + "' is there twice");
    }
    max_label = std::max(max_label, *label);
  }
  for (TarEntry& image : images) {
    const auto label = label_of.find(key_of(image.path));
    if (label == label_of.end()) {
      fail("mixed layouts: the tar holds .cls files, but none for '" + image.path + "'");
    }
    if (label->second.used) {
      fail("two images share the key '" + label->first + "'");
    }
    label->second.used = true;
    samples_.push_back({std::move(image.path), image.bytes, label->second.value});
  }
  for (const TarEntry& entry : labels) {
    if (!label_of.at(key_of(entry.path)).used) {
      fail("'" + entry.path + "' has no image: expected '" + key_of(entry.path) + ".jpg', .jpeg or .png");
    }
  }
  has_class_names_ = false;
  classes_ = numbered_classes(max_label + 1);
}

EncodedSample TarDataset::get(int64_t index) const {
  const Sample& sample = samples_.at(static_cast<std::size_t>(index));
  return {sample.bytes, file_, sample.label, name_ + ":" + sample.path};
}

}  // namespace vrwkv::data
