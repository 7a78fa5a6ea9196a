#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "eval/predict_images.h"

namespace vrwkv::eval {

/// The path, then a line for each class: probability and name.
std::string prediction_text(const ImagePrediction& prediction, const std::vector<std::string>& names);

/// {"image", "top": [{"label", "name", "probability"}]}
nlohmann::ordered_json prediction_json(const ImagePrediction& prediction, const std::vector<std::string>& names);

/// {"image", "error"}
nlohmann::ordered_json unreadable_json(const std::string& path, const std::string& message);

/// Lines of a CSV file: predictions_csv_header(), then for each image a line per class, or one with the error.
std::string predictions_csv_header();
std::string prediction_csv(const ImagePrediction& prediction, const std::vector<std::string>& names);
std::string unreadable_csv(const std::string& path, const std::string& message);

}  // namespace vrwkv::eval
