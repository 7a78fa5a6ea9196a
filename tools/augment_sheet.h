#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "data/options.h"

namespace vrwkv::tools {

/// A contact sheet, uint8 [H, W, 3]: a row for each of `images` (uint8 [h, w, 3]), first the image as it is, fitted
/// into data.train_transform.size squared, then `views` training views of it: what epochs 0, 1, … of a run with `seed`
/// would show of sample number 0, 1, …, with all that data.train_transform asks for, erasing included. Mixing, which
/// takes a batch, is left out. Cells are 4 pixels apart.
at::Tensor augment_sheet(const std::vector<at::Tensor>& images, const data::DataOptions& options, int64_t views,
                         std::uint64_t seed);

}  // namespace vrwkv::tools
