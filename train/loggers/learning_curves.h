#pragma once

#include <filesystem>
#include <string>

namespace vrwkv::train {

/// Draws the curves of metrics.jsonl (losses, top-1 and top-5, share of time spent waiting for data, learning rate,
/// gradient norm; a value that is not finite is a gap) through gnuplot: writes
/// learning_curves.gnuplot, which holds the data too, and learning_curves.png into `folder`. A missing gnuplot or a
/// failed plot is a warning, given once per process for the former, since no training should end for a picture.
void draw_learning_curves(const std::filesystem::path& folder);

/// The gnuplot script for the content of a metrics.jsonl, which prints a PNG; empty when there is nothing to draw.
std::string learning_curves_script(const std::string& metrics_jsonl, const std::string& title);

}  // namespace vrwkv::train
