#pragma once

#include "config/fields.h"
#include "config/node.h"
#include "config/problems.h"

namespace vrwkv::config {

/// Sets the fields of `section` that `node`, a mapping, gives. Adds a problem for every key that the section does not
/// have and every value of the wrong type or out of range; such fields keep their values.
void read_section(const Section& section, const Node& node, Problems& problems);

}  // namespace vrwkv::config
