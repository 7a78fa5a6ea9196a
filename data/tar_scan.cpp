#include "data/tar_scan.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <string_view>
#include <unordered_map>

#include "common/errors.h"
#include "data/ground_truth.h"
#include "data/image_name.h"
#include "data/label_text.h"
#include "data/tar_index.h"

namespace vrwkv::data {
namespace {

struct Entry {
  TarEntry file;
  std::size_t archive;
};

/// Name of the folder that holds `path`; empty at the top of the archive.
std::string_view parent_of(std::string_view path) {
  const std::size_t slash = path.find_last_of('/');
  if (slash == std::string_view::npos) {
    return {};
  }
  const std::string_view folder = path.substr(0, slash);
  return folder.substr(folder.find_last_of('/') + 1);
}

/// The path without its ending: WebDataset's key, or the folder that an inner tar stands for.
std::string stem_of(const std::string& path) { return path.substr(0, path.find_last_of('.')); }

/// The key of a WebDataset's pair; archives have keys of their own.
std::string key_of(const Entry& entry) { return std::to_string(entry.archive) + ":" + stem_of(entry.file.path); }

class TarScan {
 public:
  TarScan(const std::vector<std::string>& paths, const std::vector<std::shared_ptr<const MappedFile>>& archives)
      : paths_(paths), archives_(archives) {
    for (std::size_t i = 0; i < paths_.size(); ++i) {
      index_.sources.push_back(index_source(std::filesystem::absolute(paths_[i])));
      for (TarEntry& entry : index_tar(archives_[i]->bytes(), paths_[i])) {
        if (lower_extension(entry.path) == "tar" && !is_hidden(entry.path)) {
          add_inner(entry, i);
        } else {
          add_entry(std::move(entry), i);
        }
      }
    }
    if (images_.empty()) {
      fail(0, std::string(paths_.size() > 1 ? "the tars hold" : "the tar holds") + " no .jpg, .jpeg or .png image");
    }
  }

  ImageIndex run(const TarLabels& labels) {
    if (!labels.ground_truth.empty()) {
      label_by_truth(labels);
    } else if (!labels_.empty()) {
      label_by_file();
    } else {
      label_by_folder();
    }
    return std::move(index_);
  }

 private:
  [[noreturn]] void fail(std::size_t archive, const std::string& what) const {
    throw UsageError("dataset '" + paths_[archive] + "': " + what);
  }

  void add_entry(TarEntry entry, std::size_t archive) {
    if (is_image_name(entry.path)) {
      images_.push_back({std::move(entry), archive});
    } else if (lower_extension(entry.path) == "cls" && !is_hidden(entry.path)) {
      labels_.push_back({std::move(entry), archive});
    }
  }

  void add_inner(const TarEntry& tar, std::size_t archive) {
    for (TarEntry& entry : index_tar(tar.bytes, paths_[archive] + ":" + tar.path)) {
      entry.path = stem_of(tar.path) + "/" + entry.path;
      add_entry(std::move(entry), archive);
    }
  }

  void add_image(const Entry& image, int64_t label) {
    const auto& bytes = image.file.bytes;
    const int64_t offset = bytes.empty() ? 0 : bytes.data() - archives_[image.archive]->bytes().data();
    index_.add(image.file.path, {.offset = offset,
                                 .bytes = std::ssize(bytes),
                                 .source = static_cast<std::int32_t>(image.archive),
                                 .label = static_cast<std::int32_t>(label)});
  }

  void label_by_folder() {
    const auto depth = [](const Entry& image) { return std::ranges::count(image.file.path, '/'); };
    std::map<std::string, int64_t, std::less<>> folders;
    for (const Entry& image : images_) {
      if (depth(image) == 0) {
        fail(image.archive,
             "'" + image.file.path +
                 "' lies in no class folder and the tar holds no .cls files: expected class/name.jpg, or "
                 "WebDataset's pairs key.jpg and key.cls");
      }
      if (depth(image) != depth(images_.front())) {
        fail(image.archive, "mixed layouts: '" + images_.front().file.path + "' and '" + image.file.path +
                                "' lie at different depths, so their folders cannot both be classes");
      }
      folders.emplace(parent_of(image.file.path), 0);
    }
    for (auto& [folder, label] : folders) {
      label = std::ssize(index_.classes);
      index_.classes.push_back(folder);
    }
    for (const Entry& image : images_) {
      add_image(image, folders.find(parent_of(image.file.path))->second);
    }
  }

  void label_by_file() {
    struct Label {
      int64_t value;
      bool used;
    };
    std::unordered_map<std::string, Label> label_of;
    int64_t max_label = 0;
    for (const Entry& entry : labels_) {
      const std::string_view text(reinterpret_cast<const char*>(entry.file.bytes.data()), entry.file.bytes.size());
      const auto label = parse_label(text);
      if (!label) {
        fail(entry.archive, "'" + entry.file.path + "' must hold a label of 0 … " + std::to_string(kMaxLabel) +
                                " as text, got '" + std::string(text.substr(0, 40)) + "'");
      }
      if (!label_of.emplace(key_of(entry), Label{*label, false}).second) {
        fail(entry.archive, "'" + entry.file.path + "' is there twice");
      }
      max_label = std::max(max_label, *label);
    }
    for (const Entry& image : images_) {
      const auto label = label_of.find(key_of(image));
      if (label == label_of.end()) {
        fail(image.archive, "mixed layouts: the tar holds .cls files, but none for '" + image.file.path + "'");
      }
      if (label->second.used) {
        fail(image.archive, "two images share the key '" + stem_of(image.file.path) + "'");
      }
      label->second.used = true;
      add_image(image, label->second.value);
    }
    for (const Entry& entry : labels_) {
      if (!label_of.at(key_of(entry)).used) {
        fail(entry.archive,
             "'" + entry.file.path + "' has no image: expected '" + stem_of(entry.file.path) + ".jpg', .jpeg or .png");
      }
    }
    index_.has_class_names = false;
    index_.classes = numbered_classes(max_label + 1);
  }

  void label_by_truth(const TarLabels& labels) {
    GroundTruth truth = read_ground_truth(labels.ground_truth, labels.synsets);
    if (truth.labels.size() != images_.size()) {
      throw UsageError("'" + labels.ground_truth + "' has " + std::to_string(truth.labels.size()) + " labels, but '" +
                       paths_.front() + "' has " + std::to_string(images_.size()) +
                       " images: expected a label for each image, sorted by name");
    }
    std::ranges::sort(images_, {}, [](const Entry& image) { return std::string_view(image.file.path); });
    for (std::size_t i = 0; i < images_.size(); ++i) add_image(images_[i], truth.labels[i]);
    index_.classes = std::move(truth.classes);
    index_.sources.push_back(index_source(std::filesystem::absolute(labels.ground_truth)));
    index_.sources.push_back(index_source(std::filesystem::absolute(labels.synsets)));
  }

  const std::vector<std::string>& paths_;
  const std::vector<std::shared_ptr<const MappedFile>>& archives_;
  std::vector<Entry> images_;
  std::vector<Entry> labels_;  ///< The .cls files.
  ImageIndex index_;
};

}  // namespace

ImageIndex scan_tars(const std::vector<std::string>& paths,
                     const std::vector<std::shared_ptr<const MappedFile>>& archives, const TarLabels& labels) {
  return TarScan(paths, archives).run(labels);
}

}  // namespace vrwkv::data
