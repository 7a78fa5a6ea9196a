#pragma once

#include <string>
#include <vector>

#include "data/dataset.h"

namespace vrwkv::data {

/// Images made from numbers, so that a configuration can be tried or timed without data. Image `i` is of class
/// `i mod classes`: the class's 4 x 4 tiles of random colours, each colour moved a little by an amount drawn from
/// (seed, i). So the classes can be learned, and sets with other seeds hold other images of the same classes. An image
/// is handed out as PNG, and takes the way through decoder and transforms that any other takes.
class SyntheticDataset final : public Dataset {
 public:
  static constexpr int64_t kTiles = 4;  ///< In each direction.

  explicit SyntheticDataset(const SyntheticOptions& options);

  int64_t size() const override { return options_.images; }
  EncodedSample get(int64_t index) const override;
  int64_t label(int64_t index) const override;
  const std::vector<std::string>& classes() const override { return classes_; }
  bool has_class_names() const override { return false; }

 private:
  SyntheticOptions options_;
  std::vector<std::string> classes_;
};

}  // namespace vrwkv::data
