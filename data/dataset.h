#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "data/options.h"

namespace vrwkv::data {

/// The bytes of one image as they are stored.
struct EncodedSample {
  std::span<const std::uint8_t> bytes;  ///< Valid as long as `owner` lives.
  std::shared_ptr<const void> owner;
  int64_t label = 0;
  std::string name;  ///< Where the bytes come from: a path, or archive:path.
};

/// A set of labelled images. Every method may be called from several threads at once.
class Dataset {
 public:
  Dataset() = default;
  virtual ~Dataset() = default;
  Dataset(const Dataset&) = delete;
  Dataset& operator=(const Dataset&) = delete;

  virtual int64_t size() const = 0;

  /// Sample `index` of 0 … size() - 1. Throws ImageError, naming the file, when it cannot be read, and
  /// std::out_of_range for another index.
  virtual EncodedSample get(int64_t index) const = 0;

  /// get(index).label without reading the image.
  virtual int64_t label(int64_t index) const = 0;

  /// Name of each label, 0 … number of classes - 1; decimal numbers where the format has no names.
  virtual const std::vector<std::string>& classes() const = 0;

  /// False if the format only numbers its classes (a list, WebDataset).
  virtual bool has_class_names() const = 0;
};

/// Opens what `options` names, the format found as DatasetFormat says. Throws UsageError for a missing path, an empty
/// or inconsistent set, a compressed or truncated tar, unfinished shards, and for a format or another option that
/// contradicts the path.
std::shared_ptr<const Dataset> open_dataset(const DatasetOptions& options);

/// Throws UsageError, listing the differing names, unless the labels of `val` mean what they mean in `train`: the same
/// class names, or, where one of the two only numbers its classes, no label beyond those of `train`.
void check_same_classes(const Dataset& train, const Dataset& val);

}  // namespace vrwkv::data
