#include "data/dataset.h"

#include <algorithm>
#include <filesystem>
#include <iterator>

#include "common/errors.h"
#include "data/folder_dataset.h"
#include "data/image_name.h"
#include "data/list_dataset.h"
#include "data/shards.h"
#include "data/synthetic_dataset.h"
#include "data/tar_dataset.h"

namespace vrwkv::data {
namespace {

constexpr std::size_t kNamesShown = 5;

bool has_folders(const std::filesystem::path& folder) {
  const auto is_folder = [](const std::filesystem::directory_entry& entry) {
    return entry.is_directory() && !is_hidden(entry.path().string());
  };
  return std::ranges::any_of(std::filesystem::directory_iterator(folder), is_folder);
}

DatasetFormat found_format(const DatasetOptions& options) {
  if (!std::filesystem::is_directory(options.path)) return DatasetFormat::tar;
  if (!options.list.empty()) return DatasetFormat::list;
  const bool is_tar = is_shard_folder(options.path) || (!find_tars(options.path).empty() && !has_folders(options.path));
  return is_tar ? DatasetFormat::tar : DatasetFormat::folder;
}

void check_agreement(const DatasetOptions& options, DatasetFormat format) {
  const bool is_folder = std::filesystem::is_directory(options.path);
  const auto fail = [&](const std::string& what) { throw UsageError("dataset '" + options.path + "': " + what); };
  if (format == DatasetFormat::tar && is_folder && !is_shard_folder(options.path) && find_tars(options.path).empty()) {
    fail("format tar needs a tar file or a folder of .tar files, but this is a folder without any");
  }
  if (format != DatasetFormat::tar && !is_folder) {
    fail("formats folder and list need a folder, but this is a file");
  }
  if (format == DatasetFormat::list && options.list.empty()) {
    fail("format list needs the key 'list', a text file of 'path label' lines");
  }
  if (format != DatasetFormat::list && !options.list.empty()) {
    fail("the list '" + options.list +
         "' is only used with a folder and format list or automatic: remove it or change the format");
  }
  if (options.ground_truth.empty() != options.synsets.empty()) {
    fail("the keys 'ground_truth' and 'synsets' belong together: set both or none");
  }
  if (format != DatasetFormat::tar && !options.ground_truth.empty()) {
    fail("the labels '" + options.ground_truth + "' are only used with a tar: remove ground_truth and synsets");
  }
}

std::string shortened(const std::vector<std::string>& names) {
  std::string text;
  for (std::size_t i = 0; i < std::min(names.size(), kNamesShown); ++i) {
    text += (i > 0 ? ", " : "") + names[i];
  }
  return names.size() > kNamesShown ? text + ", … (" + std::to_string(names.size()) + " in all)" : text;
}

}  // namespace

std::shared_ptr<const Dataset> open_dataset(const DatasetOptions& options) {
  if (options.format == DatasetFormat::synthetic) {
    return std::make_shared<const SyntheticDataset>(options.synthetic);
  }
  if (options.path.empty()) {
    throw UsageError("no dataset given: set its path to a folder of images or a tar file");
  }
  if (!std::filesystem::exists(options.path) && find_tars(options.path).empty()) {
    throw UsageError("dataset '" + options.path + "' does not exist");
  }
  const DatasetFormat format = options.format == DatasetFormat::automatic ? found_format(options) : options.format;
  check_agreement(options, format);
  switch (format) {
    case DatasetFormat::folder:
      return std::make_shared<const FolderDataset>(options.path, options.index_cache);
    case DatasetFormat::list:
      return std::make_shared<const ListDataset>(options.path, options.list);
    default:
      return std::make_shared<const TarDataset>(options.path, TarLabels{options.ground_truth, options.synsets},
                                                options.index_cache);
  }
}

void check_same_classes(const Dataset& train, const Dataset& val) {
  const std::vector<std::string>& in_train = train.classes();
  const std::vector<std::string>& in_val = val.classes();
  if (!train.has_class_names() || !val.has_class_names()) {
    if (in_val.size() > in_train.size()) {
      throw UsageError("the validation set has " + std::to_string(in_val.size()) + " classes, the training set only " +
                       std::to_string(in_train.size()));
    }
    return;
  }
  if (in_train == in_val) {
    return;
  }
  std::vector<std::string> missing;
  std::vector<std::string> extra;
  std::set_difference(in_train.begin(), in_train.end(), in_val.begin(), in_val.end(), std::back_inserter(missing));
  std::set_difference(in_val.begin(), in_val.end(), in_train.begin(), in_train.end(), std::back_inserter(extra));
  std::string text = "the validation set must have the classes of the training set (" + std::to_string(in_val.size()) +
                     " and " + std::to_string(in_train.size()) + ")";
  if (!missing.empty()) {
    text += "; missing in validation: " + shortened(missing);
  }
  if (!extra.empty()) {
    text += "; only in validation: " + shortened(extra);
  }
  throw UsageError(text);
}

}  // namespace vrwkv::data
