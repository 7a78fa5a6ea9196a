#pragma once

#include <string>
#include <vector>

namespace vrwkv::eval {

/// Files as they are; for a folder, all JPEG and PNG files in it and below, in the order of their paths. Throws
/// UsageError for a folder that cannot be read or has none.
std::vector<std::string> image_paths(const std::vector<std::string>& arguments);

}  // namespace vrwkv::eval
