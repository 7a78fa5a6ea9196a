#pragma once

#include <filesystem>
#include <string>

#include "config/node.h"

namespace vrwkv::config {

/// Parses one YAML document; locations name `source` and lines counted from 1, or no line where `numbered` is false.
/// An empty document gives a null node. Throws UsageError (with location) for a syntax error, a duplicate key, a key
/// that is not a plain word, a tag, an alias inside what it names, more than one document, or an unreasonable size or
/// depth.
Node parse_yaml(const std::string& text, const std::string& source, bool numbered = true);

/// Reads `file` and puts it over the file that its top-level key `base` names (relative to `file`'s folder), if any.
/// The result is a mapping without `base`; its own location is the file, without a line. Throws UsageError when a file
/// is missing or unreadable, is empty or not a mapping, or when a base has a base.
Node read_config_file(const std::filesystem::path& file);

}  // namespace vrwkv::config
