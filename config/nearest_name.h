#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace vrwkv::config {

/// Fewest insertions, deletions, substitutions and swaps of neighbours that turn `a` into `b`.
std::size_t edit_distance(std::string_view a, std::string_view b);

/// The name nearest to `word` (the first of several equally near), or none when every one is too far off to be a typing
/// slip: more than a third of the longer word's letters.
std::optional<std::string> nearest_name(std::string_view word, const std::vector<std::string>& names);

}  // namespace vrwkv::config
