#include "eval/report.h"

#include <algorithm>
#include <iomanip>
#include <nlohmann/json.hpp>
#include <sstream>

namespace vrwkv::eval {
namespace {

constexpr int kIndent = 2;

nlohmann::ordered_json counts_json(const AccuracyCounts& counts) {
  return {{"images", counts.images},
          {"correct1", counts.correct1},
          {"correct5", counts.correct5},
          {"top1", counts.top1()},
          {"top5", counts.top5()}};
}

}  // namespace

std::string summary_line(const Accuracy& accuracy) {
  std::ostringstream text;
  text << std::fixed << std::setprecision(2) << "top-1 " << accuracy.top1() << "  top-5 " << accuracy.top5();
  return text.str();
}

std::string class_table(const Accuracy& accuracy, const std::vector<std::string>& names) {
  std::size_t width = std::string("class").size();
  for (const std::string& name : names) width = std::max(width, name.size());
  std::ostringstream text;
  const auto row = [&](const auto& name, const auto&... cells) {
    text << std::left << std::setw(static_cast<int>(width)) << name << std::right;
    ((text << std::setw(10) << cells), ...);
    text << "\n";
  };
  text << std::fixed << std::setprecision(2);
  row("class", "images", "correct1", "correct5", "top-1", "top-5");
  for (std::size_t i = 0; i < accuracy.classes.size(); ++i) {
    const AccuracyCounts& counts = accuracy.classes[i];
    row(i < names.size() ? names[i] : std::to_string(i), counts.images, counts.correct1, counts.correct5, counts.top1(),
        counts.top5());
  }
  return text.str();
}

std::string report_json(const Accuracy& accuracy, const ReportSource& source, const std::vector<std::string>& names) {
  nlohmann::ordered_json report = {{"config", source.config}, {"checkpoint", source.checkpoint}};
  report.update(counts_json(accuracy));
  report["loss"] = accuracy.loss;
  for (std::size_t i = 0; i < std::min(names.size(), accuracy.classes.size()); ++i) {
    nlohmann::ordered_json of_class = {{"label", i}, {"name", names[i]}};
    of_class.update(counts_json(accuracy.classes[i]));
    report["classes"].push_back(std::move(of_class));
  }
  return report.dump(kIndent, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace vrwkv::eval
