#pragma once

#include <string>
#include <vector>

namespace vrwkv::eval {

/// Names of ImageNet-1K's classes by label, which is the order of their WordNet identifiers: "tench", "goldfish", …
std::vector<std::string> imagenet_classes();

}  // namespace vrwkv::eval
