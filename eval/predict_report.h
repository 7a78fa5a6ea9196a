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

}  // namespace vrwkv::eval
