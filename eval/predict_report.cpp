#include "eval/predict_report.h"

#include <iomanip>
#include <sstream>

#include "eval/csv_field.h"

namespace vrwkv::eval {

std::string prediction_text(const ImagePrediction& prediction, const std::vector<std::string>& names) {
  std::ostringstream text;
  text << prediction.path << "\n" << std::fixed << std::setprecision(4);
  for (const auto& [label, probability] : prediction.top) {
    text << "  " << std::setw(6) << probability << "  " << names[static_cast<std::size_t>(label)] << "\n";
  }
  return text.str();
}

nlohmann::ordered_json prediction_json(const ImagePrediction& prediction, const std::vector<std::string>& names) {
  nlohmann::ordered_json top = nlohmann::ordered_json::array();
  for (const auto& [label, probability] : prediction.top) {
    top.push_back({{"label", label}, {"name", names[static_cast<std::size_t>(label)]}, {"probability", probability}});
  }
  return {{"image", prediction.path}, {"top", std::move(top)}};
}

std::string predictions_csv_header() { return "image,rank,label,name,probability,error\n"; }

std::string prediction_csv(const ImagePrediction& prediction, const std::vector<std::string>& names) {
  std::ostringstream text;
  int64_t rank = 0;
  for (const auto& [label, probability] : prediction.top) {
    text << csv_field(prediction.path) << "," << ++rank << "," << label << ","
         << csv_field(names[static_cast<std::size_t>(label)]) << "," << probability << ",\n";
  }
  return text.str();
}

std::string unreadable_csv(const std::string& path, const std::string& message) {
  return csv_field(path) + ",,,,," + csv_field(message) + "\n";
}

nlohmann::ordered_json unreadable_json(const std::string& path, const std::string& message) {
  return {{"image", path}, {"error", message}};
}

}  // namespace vrwkv::eval
