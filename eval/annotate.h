#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "eval/predict_images.h"

namespace vrwkv::eval {

/// Draws `png`: the image of `prediction` and below it a line for each of its classes, a bar as long as it is probable
/// with number and name. By gnuplot; see draw_with_gnuplot() for what happens when it cannot. Throws data::ImageError
/// when the image cannot be read, std::runtime_error when the files cannot be written.
void draw_annotated(const ImagePrediction& prediction, const std::vector<std::string>& names,
                    const std::filesystem::path& png);

/// A file name for the annotated picture of each path: its base name plus .png, or, where several share that, the whole
/// path with `_` for `/`.
std::map<std::string, std::string> annotated_names(const std::vector<std::string>& paths);

}  // namespace vrwkv::eval
