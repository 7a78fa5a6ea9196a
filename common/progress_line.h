#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace vrwkv {

/// Whether stderr is a terminal that can redraw a line, so that log::LiveLine may be used.
bool can_redraw();

/// Columns of the terminal behind stderr; 80 where it does not say.
int64_t terminal_width();

/// A line that is redrawn: a bar for `share` (0 … 1) of the work, then `fields`, in fewer than `width` columns. Where
/// these are too few the bar shrinks, then goes, then whole fields go, the last ones first.
std::string progress_line(double share, const std::vector<std::string>& fields, int64_t width);

/// `fields` with a gap between them.
std::string joined_fields(const std::vector<std::string>& fields);

/// h:mm:ss, or m:ss below an hour.
std::string format_duration(double seconds);

}  // namespace vrwkv
