#pragma once

#include <string>

namespace vrwkv::cli {

/// Throws UsageError unless the folder of the file `target` is there and can be written; `flag` is named in the
/// message.
/// "-" and "" pass. To be called before the work whose result would otherwise be lost.
void check_output(const std::string& flag, const std::string& target);

/// Writes `text` to the file `target`, atomically, or to stdout for "-".
void write_output(const std::string& target, const std::string& text);

}  // namespace vrwkv::cli
