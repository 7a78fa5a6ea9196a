#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace vrwkv::bench {

/// Writes `report` to the file `target` atomically; to stdout for "-", and nowhere for "".
void write_report(const std::string& target, const nlohmann::ordered_json& report);

/// Prints the table and what belongs to it: on stderr when the report takes stdout.
void print_text(const std::string& target, const std::string& text);

}  // namespace vrwkv::bench
