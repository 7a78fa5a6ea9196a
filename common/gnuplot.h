#pragma once

#include <filesystem>
#include <string>

namespace vrwkv {

enum class PlotScript { keep, remove };

/// Draws `png` by running `script` in gnuplot, which must print the picture. The script is kept beside it, as .gnuplot,
/// or removed when the picture is there. A picture that cannot be drawn is a warning in the log, and the former one
/// stays; where gnuplot is not installed, one warning for the whole process. Throws std::runtime_error when the script
/// cannot be written.
void draw_with_gnuplot(const std::string& script, const std::filesystem::path& png,
                       PlotScript after = PlotScript::keep);

/// `text` as one of gnuplot's double-quoted strings, for terminals with `noenhanced`; cut to `length` bytes, never
/// within a character of UTF-8.
std::string gnuplot_string(const std::string& text, size_t length = std::string::npos);

}  // namespace vrwkv
