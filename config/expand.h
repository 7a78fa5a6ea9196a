#pragma once

#include <string>

namespace vrwkv::config {

/// A path with ${NAME} replaced by the environment variable, $$ by a dollar, and then ~ or ~/ at the start by HOME.
/// Throws std::invalid_argument that says what is wrong: an undefined variable, a malformed name, a missing brace.
std::string expand_path(const std::string& text);

/// The text that expand_path turns into `path`, for any `path` that expand_path can return.
std::string escape_path(const std::string& path);

}  // namespace vrwkv::config
