#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace vrwkv::config {

/// True for valid UTF-8 without control characters; with `line_breaks`, tabs and line breaks are allowed too.
bool is_plain_text(std::string_view text, bool line_breaks);

/// `text` on one line for an error message: what cannot be printed is written as \xNN, a long text is cut.
std::string printable(std::string_view text);

/// The parts of `text` between the separators; one empty part for an empty text.
std::vector<std::string> split(std::string_view text, char separator);

/// The decimal integer that the whole of `text` is; none for anything else, also 0x10, 010, 1_000, or beyond int64.
std::optional<int64_t> parse_integer(std::string_view text);

/// The finite decimal number (12, 0.5, .5, 1e-3) that the whole of `text` is; none for anything else, also nan and inf.
std::optional<double> parse_number(std::string_view text);

/// The shortest text that parse_number reads back to the same value; always with a point or an exponent.
std::string number_text(double value);

/// True when an unquoted `text` would be read as something else than a string: a number, true, false, null or nothing.
bool looks_like_other_type(std::string_view text);

}  // namespace vrwkv::config
