#pragma once

#include <string>
#include <vector>

#include "config/fields.h"
#include "config/run_config.h"

namespace vrwkv::config {

/// The named models that `model.variant` can start from, in the order of its names.
enum class ModelVariant { none, tiny, small, base, large, vrwkv6_tiny, vrwkv6_small, vrwkv6_base };

std::vector<std::string> variant_names();

/// What a configuration file says: the values, and the variant that they start from.
struct Document {
  RunConfig config;
  ModelVariant variant = ModelVariant::none;
};

/// All keys, as a section without a name that holds `task` and the sections model, mae, data, train, eval and run.
/// Refers into `document`.
Section describe(Document& document);

}  // namespace vrwkv::config
