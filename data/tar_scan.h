#pragma once

#include <memory>
#include <string>
#include <vector>

#include "data/image_index.h"
#include "data/mapped_file.h"

namespace vrwkv::data {

/// Labels of a set of archives that are not in them; both are empty or both are set. See read_ground_truth.
struct TarLabels {
  std::string ground_truth, synsets;
};

/// The images of uncompressed tars, in their order, that form one set; tars within a tar are read through. `paths` name
/// `archives` in messages and become the sources.
///
/// The class of an image is, in this order: that of `labels`; with .cls files (WebDataset) the number in `key.cls`,
/// which lies in the same archive as `key.jpg`; else the name of the folder, or of the inner tar, that it lies in.
/// Classes are sorted bytewise. Other files are passed over. Throws UsageError as TarDataset says.
ImageIndex scan_tars(const std::vector<std::string>& paths,
                     const std::vector<std::shared_ptr<const MappedFile>>& archives, const TarLabels& labels);

}  // namespace vrwkv::data
