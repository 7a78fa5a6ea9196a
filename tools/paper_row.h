#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "vrwkv/options.h"

namespace vrwkv::tools {

/// What table 2 of the paper (arXiv 2403.02308) says of a variant, with 1000 classes.
struct PaperRow {
  std::string variant;     ///< As variant_options knows it.
  double parameters;       ///< Millions, to one decimal.
  double flops;            ///< 10^9, to one decimal.
  int64_t size;            ///< Side in pixels of the input that `flops` is for.
  int64_t pos_embed_size;  ///< Side in pixels of the input that `parameters` has a position embedding for.
};

/// The row of the variant with these layers, whatever its number of classes, input size and training options; none for
/// other networks.
std::optional<PaperRow> paper_row(const ClassifierOptions& options);

}  // namespace vrwkv::tools
