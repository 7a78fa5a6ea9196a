#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "data/dataset.h"

namespace vrwkv::eval {

/// What the images of a data set show in terms of the model's classes, where that is not simply class i of the one for
/// class i of the other; see docs/evaluation.md for the files.
class LabelSet {
 public:
  /// Every class of the data is the model's class of that number.
  LabelSet() = default;

  /// Reads a JSON file: an object with `classes`, `images` and `only`, or the list of lists of ImageNet-ReaL. Throws
  /// UsageError that names file and entry for what does not fit the data (its class names) or the model (`classes` of
  /// them).
  LabelSet(const std::filesystem::path& file, const data::Dataset& dataset, int64_t classes);

  /// The right classes of an image that the data calls class `label`, ascending; empty: it does not count. Throws
  /// std::runtime_error that names the image when the file lists images, but not this one.
  const std::vector<int64_t>& right(int64_t label, const std::string& name) const;

  /// Whether the file said anything.
  bool given() const { return !file_.empty(); }

  /// The classes that a prediction is chosen from, ascending; empty: all.
  const std::vector<int64_t>& only() const { return only_; }

 private:
  std::string file_;
  std::vector<std::vector<int64_t>> of_class_;            ///< By the data's label.
  std::map<std::string, std::vector<int64_t>> of_image_;  ///< By file name without folder and ending.
  std::vector<int64_t> only_;
};

}  // namespace vrwkv::eval
