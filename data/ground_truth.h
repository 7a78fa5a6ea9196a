#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace vrwkv::data {

/// Labels kept apart from the images: of ILSVRC2012's validation set.
struct GroundTruth {
  std::vector<int64_t> labels;       ///< Of the images sorted by name; into `classes`.
  std::vector<std::string> classes;  ///< Sorted bytewise, as those of the training set are.
};

/// Reads `truth`, the devkit's ILSVRC2012_validation_ground_truth.txt: a line for each image, its class as a number
/// from 1 on in ILSVRC's own order; and `synsets`, which says that order: its line i begins with the name (WNID) of
/// class i. Throws UsageError, with file and line, for a file that is missing, empty or malformed, a class named twice,
/// a number without a line in `synsets`, and a class without any image.
GroundTruth read_ground_truth(const std::filesystem::path& truth, const std::filesystem::path& synsets);

}  // namespace vrwkv::data
