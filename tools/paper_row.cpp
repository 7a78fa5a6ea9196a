#include "tools/paper_row.h"

#include <vector>

namespace vrwkv::tools {
namespace {

/// The options that layers and parameters depend on, classes and position embedding apart.
ClassifierOptions layers_of(const ClassifierOptions& options) {
  const VrwkvOptions& from = options.backbone;
  ClassifierOptions layers;
  layers.head = options.head;
  VrwkvOptions& to = layers.backbone;
  to.patch_size = from.patch_size;
  to.in_channels = from.in_channels;
  to.embed_dims = from.embed_dims;
  to.depth = from.depth;
  to.hidden_rate = from.hidden_rate;
  to.attention = from.attention;
  to.post_norm = from.post_norm;
  to.key_norm = from.key_norm;
  if (from.init_values) to.init_values = 1.0;
  return layers;
}

}  // namespace

std::optional<PaperRow> paper_row(const ClassifierOptions& options) {
  for (const PaperRow& row : std::vector<PaperRow>{{"tiny", 6.2, 1.2, 224, 224},
                                                   {"small", 23.8, 4.6, 224, 224},
                                                   {"base", 93.7, 18.2, 224, 224},
                                                   {"large", 334.9, 189.5, 384, 192}}) {
    if (layers_of(options) == layers_of(variant_options(row.variant))) return row;
  }
  return std::nullopt;
}

}  // namespace vrwkv::tools
