#pragma once

#include <string>
#include <vector>

#include "config/node.h"

namespace vrwkv::config {

/// Puts each `key.path=value` over `root`, in order. The value is read as YAML, so lists work:
/// `data.normalize.std=[1,2,3]`. Throws UsageError, `command line: …`, when one is not of that form. Keys and types are
/// checked later, with the rest.
void apply_overrides(Node& root, const std::vector<std::string>& overrides);

}  // namespace vrwkv::config
