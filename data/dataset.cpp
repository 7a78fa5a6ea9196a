#include "data/dataset.h"

#include <algorithm>
#include <filesystem>
#include <iterator>

#include "common/errors.h"
#include "data/folder_dataset.h"
#include "data/list_dataset.h"
#include "data/synthetic_dataset.h"
#include "data/tar_dataset.h"

namespace vrwkv::data {
namespace {

constexpr std::size_t kNamesShown = 5;

DatasetFormat found_format(const DatasetOptions& options) {
  if (!std::filesystem::is_directory(options.path)) {
    return DatasetFormat::tar;
  }
  return options.list.empty() ? DatasetFormat::folder : DatasetFormat::list;
}

void check_agreement(const DatasetOptions& options, DatasetFormat format) {
  const bool is_folder = std::filesystem::is_directory(options.path);
  if (format == DatasetFormat::tar && is_folder) {
    throw UsageError("dataset '" + options.path + "': format tar needs a tar file, but this is a folder");
  }
  if (format != DatasetFormat::tar && !is_folder) {
    throw UsageError("dataset '" + options.path + "': formats folder and list need a folder, but this is a file");
  }
  if (format == DatasetFormat::list && options.list.empty()) {
    throw UsageError("dataset '" + options.path +
                     "': format list needs the key 'list', a text file of 'path label' lines");
  }
  if (format != DatasetFormat::list && !options.list.empty()) {
    throw UsageError("dataset '" + options.path + "': the list '" + options.list +
                     "' is only used with a folder and format list or automatic: remove it or change the format");
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
  if (!std::filesystem::exists(options.path)) {
    throw UsageError("dataset '" + options.path + "' does not exist");
  }
  const DatasetFormat format = options.format == DatasetFormat::automatic ? found_format(options) : options.format;
  check_agreement(options, format);
  switch (format) {
    case DatasetFormat::folder:
      return std::make_shared<const FolderDataset>(options.path);
    case DatasetFormat::list:
      return std::make_shared<const ListDataset>(options.path, options.list);
    default:
      return std::make_shared<const TarDataset>(options.path);
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
